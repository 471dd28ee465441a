"""Workflows that tests of the toolkit run."""

from __future__ import annotations

import asyncio
from typing import Any

from torana_server import RetryPolicy, StepContext, StepTimeout, Workflow, WorkflowBuilder

DAILY = RetryPolicy(max_attempts=3, initial_interval_s=86_400, max_interval_s=7 * 86_400, jitter=0)


async def charge(amount: int, ctx: StepContext) -> object:
    api = await ctx.get_resource("payments")
    async with api.post("/charges", json={"amount": amount, "key": ctx.idempotency_key}) as response:
        response.raise_for_status()
        return await response.json()


async def note(ctx: StepContext) -> None:
    database = await ctx.get_resource("db")
    await database.execute("INSERT INTO notes VALUES ($1)", ctx.idempotency_key)


def payment() -> Workflow:
    return (
        WorkflowBuilder("payment")
        .add_step("charge", charge, required_resources=["payments"], retry=DAILY)
        .add_step("note", note, required_resources=["db"])
        .build()
    )


def source(text: str, **options: Any) -> Workflow:
    """One step, `only`."""
    return WorkflowBuilder("flow").add_async_code("only", text, **options).build()


async def patient() -> None:
    await asyncio.sleep(301)


def waits() -> Workflow:
    return WorkflowBuilder("waits").add_step("wait", patient, timeout=StepTimeout(attempt_s=300)).build()
