"""Workflows whose steps leave a durable line for everything they do, so that what ran can be counted after a crash.

A line of the file: execution, step, attempt, idempotency key, what was restored, and the number of the act.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from servers import pass_gate
from torana_server import Gateway, RetryPolicy, StepContext, WorkflowBuilder

CHAIN_STEPS = 6


@dataclass(frozen=True, slots=True)
class Act:
    """What a step did, as it was recorded outside of the server."""

    execution: str
    step: str
    attempt: int
    key: str
    restored: int
    number: int


def record(path: str, ctx: StepContext, number: int) -> None:
    """Durable when it returns."""
    restored = ctx.restored if isinstance(ctx.restored, int) else 0
    line = f"{ctx.execution_id} {ctx.step_name} {ctx.attempt} {ctx.idempotency_key} {restored} {number}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


def recorded(path: Path) -> list[Act]:
    rows = [line.split() for line in path.read_text().splitlines()]
    return [Act(row[0], row[1], int(row[2]), row[3], int(row[4]), int(row[5])) for row in rows]


async def work(effects: str, acts: int, ctx: StepContext) -> int:
    """`acts` acts, each followed by an emission and a checkpoint of its number."""
    done = ctx.restored if isinstance(ctx.restored, int) else 0
    for number in range(done + 1, acts + 1):
        record(effects, ctx, number)
        await ctx.emit("act", number)
        await ctx.checkpoint(number)
    return acts


async def act_once(effects: str, ctx: StepContext) -> int:
    record(effects, ctx, 1)
    return ctx.attempt


async def act_and_wait(effects: str, gates: int, gate: str, ctx: StepContext) -> int:
    record(effects, ctx, 1)
    await pass_gate(gates, gate)
    return ctx.attempt


async def fail_first(effects: str, ctx: StepContext) -> int:
    record(effects, ctx, 1)
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails")
    return ctx.attempt


def register(gateway: Gateway) -> None:
    register_all_but_optional(gateway)
    gateway.register_workflow(
        "optional",
        WorkflowBuilder("optional").add_step("act", act_and_wait, function_name="optional.act_and_wait").build(),
    )


def register_all_but_optional(gateway: Gateway) -> None:
    chain = WorkflowBuilder("chain")
    tiny = WorkflowBuilder("tiny").add_step("first", act_once).add_step("second", act_once)
    for number in range(CHAIN_STEPS):
        chain.add_step(f"work_{number}", work)
    waits = WorkflowBuilder("waits").add_step("before", act_once).add_step("wait", act_and_wait)
    retry = RetryPolicy(max_attempts=2, initial_interval_s=2.0, jitter=0.0)
    retries = WorkflowBuilder("retries").add_step("fail_first", fail_first, retry=retry)
    for builder in (chain, tiny, waits.add_step("after", act_once), retries):
        workflow = builder.build()
        gateway.register_workflow(workflow.definition.name, workflow)
