"""The workflows of the recorded journals. What stands here is never changed, only added to: old journals name it."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import uuid

from torana_server import Gateway, RetryPolicy, StepContext, WorkflowBuilder

QUICK = RetryPolicy(max_attempts=2, initial_interval_s=0.01, jitter=0.0)


async def extract(rows: int, ctx: StepContext) -> dict[str, object]:
    """Says something of every kind, and returns a value of every type."""
    await ctx.progress(0.5, "half way", rows=rows)
    ctx.logger.info("read %d rows ✓", rows, extra={"source": "a\nb"})
    await ctx.emit("sample", {"row": 1, "at": dt.date(2026, 1, 31)})
    await ctx.checkpoint({"row": rows})
    return {
        "rows": rows,
        "at": dt.datetime(2026, 1, 31, 12, 30, 15, 250_000, tzinfo=dt.UTC),
        "price": decimal.Decimal("10.50"),
        "id": uuid.UUID(int=7),
        "raw": b"\x00\xff",
        "pair": (1, 2.5),
        "took": dt.timedelta(milliseconds=1_500),
        "nothing": None,
        "text": "ünïcode \U0001f600",
    }


async def fail_first(ctx: StepContext) -> int:
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails")
    return ctx.attempt


async def fail(why: str) -> None:
    raise LookupError(why)


async def explain(message: str) -> dict[str, str]:
    return {"because": message}


async def wait_first(ctx: StepContext) -> int:
    """Never ends by itself, unless an earlier attempt was interrupted."""
    await ctx.emit("here", ctx.attempt)
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ctx.attempt


def builders() -> list[WorkflowBuilder]:
    """Made anew at each call. Steps without a connection run side by side; `size` skips all branches but one."""
    etl = (
        WorkflowBuilder("etl", labels={"kind": "batch"})
        .add_step("extract", extract, function_name="journals.extract")
        .add_node("switch", "size", {"input": "rows", "cases": {"small": [1, 2], "large": 3}, "default": "other"})
        .add_node("compose", "small", {"value": {"size": "small", "rows": "${rows}"}})
        .add_node("compose", "large", {"value": {"size": "large"}})
        .add_connection("extract", "rows", "size", "rows")
        .add_connection("size", "small", route="small")
        .add_connection("size", "large", route="large")
    )
    flaky = WorkflowBuilder("flaky").add_step("work", fail_first, function_name="journals.fail_first", retry=QUICK)
    breaks = (
        WorkflowBuilder("breaks")
        .add_node("compose", "before", {"value": {"ready": True}})
        .add_step("work", fail, function_name="journals.fail", retry=QUICK)
        .add_step("beside", wait_first, function_name="journals.wait_first")
        .add_connection("before", "work")
        .add_connection("before", "beside")
    )
    handled = (
        WorkflowBuilder("handled")
        .add_step("work", fail, function_name="journals.fail")
        .add_step("explain", explain, function_name="journals.explain")
        .add_connection("work", "explain", route="error")
    )
    waits = (
        WorkflowBuilder("waits")
        .add_step("work", wait_first, function_name="journals.wait_first")
        .add_node("compose", "after", {"value": "done"})
        .add_connection("work", "after")
    )
    return [etl, flaky, breaks, handled, waits]


def register(gateway: Gateway) -> None:
    for builder in builders():
        workflow = builder.build()
        gateway.register_workflow(workflow.definition.name, workflow)
