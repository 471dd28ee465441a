"""Workflows that write many events, or wait for the test."""

from __future__ import annotations

import asyncio

from servers import pass_gate
from torana_server import Gateway, StepContext, WorkflowBuilder

BREATH_EVENTS = 20


async def talk(count: int, size: int, ctx: StepContext, pause_ms: int = 0) -> dict[str, int]:
    """Emits `count` texts of `size` characters, with a pause after every 20."""
    for number in range(count):
        await ctx.emit("word", f"{number:08d}".ljust(size, "."))
        if pause_ms and number % BREATH_EVENTS == 0:
            await asyncio.sleep(pause_ms / 1_000)
    return {"words": count}


async def wait(gates: int, gate: str) -> str:
    await pass_gate(gates, gate)
    return "passed"


async def conclude() -> str:
    return "done"


def register(gateway: Gateway) -> None:
    talks = WorkflowBuilder("talks").add_step("talk", talk).add_step("conclude", conclude)
    waits = WorkflowBuilder("waits").add_step("wait", wait).add_step("conclude", conclude)
    for builder in (talks, waits):
        workflow = builder.build()
        gateway.register_workflow(workflow.definition.name, workflow)
