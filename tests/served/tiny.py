"""The smallest workflow."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder


async def increment(number: int) -> int:
    return number + 1


def register(gateway: Gateway) -> None:
    gateway.register_workflow("tiny", WorkflowBuilder("tiny").add_step("increment", increment).build())
