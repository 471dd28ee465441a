"""Parcel labels from a carrier that is often busy: retried by a policy, or within the step."""

from __future__ import annotations

import asyncio
from typing import Any

from torana_server import Gateway, RetryPolicy, StepContext, WorkflowBuilder

POLICY = RetryPolicy(
    max_attempts=4, initial_interval_s=0.02, backoff=2.0, jitter=0.0, never_retry_on=("BadAddressError",)
)
TRIES = 4


class BusyError(Exception):
    """The carrier cannot answer now."""


class BadAddressError(Exception):
    """The carrier will never take this parcel."""


async def ask_for_label(ctx: StepContext, parcel: dict[str, Any]) -> Any:
    """One try. The idempotency key is the same in every one, so the carrier prints one label."""
    carrier = await ctx.get_resource("carrier")
    headers = {"Idempotency-Key": ctx.idempotency_key}
    async with carrier.post("/labels", json=parcel, headers=headers) as response:
        answer = await response.json()
    if response.status == 422:
        raise BadAddressError(answer["error"])
    if response.status >= 500:
        raise BusyError(answer["error"])
    return answer["label"]


async def print_label(parcel: dict[str, Any], ctx: StepContext) -> dict[str, Any]:
    return {"label": await ask_for_label(ctx, parcel), "attempts": ctx.attempt}


async def persist(parcel: dict[str, Any], ctx: StepContext) -> dict[str, Any]:
    """Tries again by itself: for the server it is one attempt, so nothing of it survives a crash."""
    pause_s = 0.001
    for tried in range(1, TRIES):
        try:
            return {"label": await ask_for_label(ctx, parcel), "tries": tried}
        except BusyError as error:
            ctx.logger.warning("try %d: %s", tried, error)
            await asyncio.sleep(pause_s)
            pause_s *= 2
    return {"label": await ask_for_label(ctx, parcel), "tries": TRIES}


def register(gateway: Gateway) -> None:
    declared = WorkflowBuilder("label").add_step("print", print_label, required_resources=["carrier"], retry=POLICY)
    persistent = WorkflowBuilder("persistent_label").add_step("print", persist, required_resources=["carrier"])
    for builder in (declared, persistent):
        workflow = builder.build()
        gateway.register_workflow(workflow.definition.name, workflow)
