"""What an attempt may ask of the server, and how the runner ends it."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from torana_server.access import Principal
from torana_server.core.clock import Micros
from torana_server.core.errors import Reason, ResourceError, StepError, TypeNotFoundError
from torana_server.core.limits import INLINE_VALUE_BYTES_MAX
from torana_server.core.values import encode
from torana_server.steps import InProcessRunner, StepContext, StepRunner, get_current_context
from torana_server.steps.log import one_line
from torana_server.workflow import Step
from unit.steps.world import Database, World, code, function


def test_the_runner_keeps_the_port() -> None:
    runner: StepRunner = World().runner
    assert runner.cancel_grace_s == 10.0


async def test_progress_emit_and_checkpoint_reach_the_events() -> None:
    world = World()
    await world.source("""
await progress(0.25, "a\\nb", rows=3, at=date(2025, 1, 1))
await progress(1)
await emit("row", Decimal("1.5"))
await checkpoint({"seen": [1]})
await ctx.progress(fraction=0.5, message="named")
""")
    assert world.events.progressed == [
        (0.25, "a\\nb", {"rows": 3, "at": datetime(2025, 1, 1).date()}),  # noqa: DTZ001 — a plain date
        (1.0, "", None),
        (0.5, "named", None),
    ]
    assert [str(value) for _, value in world.events.emitted] == ["1.5"]
    assert [payload.json for payload in world.events.saved] == ['{"seen":[1]}']


@pytest.mark.parametrize("fraction", ["1.01", "-1", "'x'", "float('nan')", "None"])
async def test_progress_takes_a_fraction_only(fraction: str) -> None:
    with pytest.raises(ValueError, match="needs a fraction between 0 and 1"):
        await World().source(f"await progress({fraction})")


@pytest.mark.parametrize("call", ["emit('', 1)", "emit(None, 1)"])
async def test_an_emitted_value_needs_a_topic(call: str) -> None:
    with pytest.raises(ValueError, match="needs a topic"):
        await World().source(f"await {call}")


async def test_the_next_attempt_finds_the_checkpoint() -> None:
    step = code("return [ctx.attempt, ctx.restored['at'].year, ctx.restored is ctx.restored]")
    saved = encode({"at": datetime(2025, 1, 1, tzinfo=UTC)})
    assert await World().run(step, attempt=2, restored=saved) == [2, 2025, True]
    assert await World().source("return ctx.restored") is None


async def test_the_deadline_is_a_time_with_a_timezone() -> None:
    step = code("return [ctx.deadline.isoformat(), ctx.cancelled]")
    assert await World().run(step, deadline=Micros(1_000_000)) == ["1970-01-01T00:00:01+00:00", False]
    assert await World().source("return ctx.deadline") is None


async def test_context_values_are_read_only_and_have_defaults() -> None:
    source = """
try:
    context["user"] = "eve"
except TypeError:
    return [context["user"], context.get("x", 1), context.get_variable("x"), dict(context), "user" in context]
"""
    assert await World().run(code(source), context={"user": "ada"}) == ["ada", 1, None, {"user": "ada"}, True]


def test_the_current_context_needs_a_step() -> None:
    with pytest.raises(StepError, match="where no step runs"):
        get_current_context()


async def test_the_workflow_context_is_one_per_tenant_and_revision() -> None:
    world = World()
    step = code("workflow_context.n = getattr(workflow_context, 'n', 0) + 1\nreturn workflow_context.n")
    assert [await world.run(step), await world.run(step)] == [1, 2]
    assert await world.run(step, revision="other") == 1
    assert await world.run(step, principal=Principal("other", "bob")) == 1
    assert await world.run(step) == 3


async def test_a_step_gets_only_the_resources_it_declares() -> None:
    world = World()
    world.leases.objects.update(db=Database(), admin_db=Database())
    source = "return (await get_resource('db')) is (await ctx.get_resource('db'))"
    assert await world.run(code(source, required_resources=("db",))) is True
    with pytest.raises(StepError, match=r"may not use resource 'admin_db'.*are db, cache") as caught:
        await world.run(code("await get_resource('admin_db')", required_resources=("db", "cache")))
    assert caught.value.reason is Reason.RESOURCE_NOT_DECLARED
    assert world.leases.opened == [frozenset({"db"})]


async def test_a_step_that_declares_none_gets_what_is_bound() -> None:
    world = World()
    world.leases.objects["db"] = Database()
    assert await world.source("return (await get_resource('db')).size") == 10
    with pytest.raises(ResourceError, match="'cache' is not bound"):
        await world.source("await get_resource('cache')")
    assert world.leases.opened == [None, None]


async def test_a_step_that_asks_for_no_resource_opens_no_leases() -> None:
    world = World()
    await world.source("return 1")
    assert world.leases.opened == []


@pytest.mark.parametrize("ending", ["return 1", "raise ValueError", "return float('nan')", "raise SystemExit"])
async def test_leases_are_returned_however_the_step_ends(ending: str) -> None:
    world = World()
    world.leases.objects["db"] = Database()
    await asyncio.gather(world.source(f"await get_resource('db')\n{ending}"), return_exceptions=True)
    assert world.leases.out == 0


class Gate:
    """An async function step that waits, and says when it got there."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.ctx: StepContext | None = None

    async def __call__(self, ctx: StepContext) -> str:
        self.ctx = ctx
        await ctx.get_resource("db")
        self.entered.set()
        await self.opened.wait()
        return "done"


def gated() -> tuple[World, Gate]:
    world, gate = World(), Gate()
    world.leases.objects["db"] = Database()
    world.functions.register("gate", gate)
    return world, gate


async def test_an_async_step_sees_its_cancellation_and_its_leases_are_returned() -> None:
    world, gate = gated()
    task = asyncio.create_task(world.run(function("gate")))
    await gate.entered.wait()
    assert world.leases.out == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.leases.out == 0
    assert gate.ctx is not None
    assert gate.ctx.cancelled


async def test_late_calls_of_an_ended_attempt_are_refused() -> None:
    world, gate = gated()
    gate.opened.set()
    await world.run(function("gate"))
    ctx = gate.ctx
    assert ctx is not None
    for late in (ctx.progress(1), ctx.emit("a", 1), ctx.checkpoint(1), ctx.get_resource("db")):
        with pytest.raises(StepError, match="attempt 1 of step 'load' is over"):
            await late
    with pytest.raises(StepError, match="is over"):
        ctx.logger.info("late")
    assert world.leases.out == 0


async def test_an_abandoned_attempt_loses_its_leases_and_its_calls() -> None:
    world, gate = gated()
    ignored = asyncio.Event()

    async def stubborn(ctx: StepContext) -> object:
        try:
            return await gate(ctx)
        except asyncio.CancelledError:
            ignored.set()
            await gate.opened.wait()
            return await ctx.get_resource("db")

    world.functions.register("stubborn", stubborn)
    call = world.call(function("stubborn"))
    task = asyncio.create_task(world.runner.run(call, world.events))
    await gate.entered.wait()
    task.cancel()
    await ignored.wait()
    world.runner.abandon(call)
    await world.runner.close()
    assert world.leases.out == 0
    gate.opened.set()
    with pytest.raises(StepError, match="is over"):
        await task
    world.runner.abandon(call)


async def test_awaiting_something_cancelled_is_the_steps_failure_and_no_cancellation() -> None:
    source = "t = asyncio.create_task(asyncio.sleep(9))\nt.cancel()\nawait t"
    with pytest.raises(StepError, match="awaited something that was cancelled"):
        await World().source(source)


@pytest.mark.parametrize("source", ["exit(1)", "import sys\nsys.exit()", "raise SystemExit"])
async def test_a_step_cannot_end_the_server(source: str) -> None:
    with pytest.raises(StepError, match="asked the process to exit"):
        await World().source(source)


async def test_a_value_that_is_too_large_names_its_size() -> None:
    with pytest.raises(
        StepError, match=f"the output of step 'extract' is {2 * INLINE_VALUE_BYTES_MAX + 2} bytes"
    ) as caught:
        await World().source("return 'é' * n", n=INLINE_VALUE_BYTES_MAX)
    assert caught.value.reason is Reason.VALUE_TOO_LARGE
    assert caught.value.metadata["sizeBytes"] == str(2 * INLINE_VALUE_BYTES_MAX + 2)
    assert await World().source("return 'x' * n", n=INLINE_VALUE_BYTES_MAX - 2) == "x" * (INLINE_VALUE_BYTES_MAX - 2)
    with pytest.raises(StepError, match="the value emitted as 'rows' is"):
        await World().source("await emit('rows', 'x' * n)", n=INLINE_VALUE_BYTES_MAX)


@pytest.mark.parametrize("value", ["object()", "float('inf')", "{1: 2}", "print"])
async def test_a_value_that_cannot_be_stored_fails_the_step(value: str) -> None:
    with pytest.raises(StepError, match=r"the output of step 'extract': .*cannot be stored") as caught:
        await World().source(f"return {{'a': [{value}]}}")
    assert caught.value.reason is Reason.VALUE_NOT_STORABLE


async def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(TypeNotFoundError, match="'nope' is unknown"):
        await World().run(Step(name="s", type="nope"))


async def test_a_revision_used_for_another_step_does_not_mix_their_configs() -> None:
    world = World()
    assert await world.run(code("return 1")) == 1
    assert await world.run(code("return 2")) == 2


async def test_log_lines_become_events_and_reach_the_servers_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="torana.steps")
    world = World()
    await world.source("""
logger.debug("d %s", 1)
logger.info(f"{workflow_name}: 100%")
logger.warning("%(a)s\\r\\nforged", {"a": 1})
logger.error("bad %d", "x")
logger.log(20, "at %s", "twenty", extra={"rows": 1, "message": "its own", "step": "forged"})
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("failed")
""")
    assert world.events.lines == [
        (10, "d 1"),
        (20, "user_etl: 100%"),
        (30, "1\\r\\nforged"),
        (40, "bad %d ('x',)"),
        (20, "at twenty"),
        (40, "failed: ZeroDivisionError: division by zero"),
    ]
    assert [record.getMessage() for record in caplog.records] == [text for _, text in world.events.lines[1:]]
    record: Any = caplog.records[-1]
    assert (record.execution, record.workflow, record.step, record.attempt) == ("execution-1", "user_etl", "extract", 1)
    assert record.error_type == "ZeroDivisionError"
    assert record.exc_text.endswith("  ZeroDivisionError: division by zero")
    with_extra: Any = caplog.records[-2]
    assert (with_extra.rows, with_extra.extra_message, with_extra.step) == (1, "its own", "extract")
    assert world.events.fields == [{"rows": 1, "message": "its own", "step": "forged"}]


async def test_in_debug_mode_every_line_becomes_an_event() -> None:
    world = World()
    world.runner = InProcessRunner(world.types, world.leases)
    call = world.call(code("logger.debug('quiet')"))
    call.debug = True
    await world.runner.run(call, world.events)
    assert world.events.lines == [(10, "quiet")]


async def test_lines_below_the_level_become_no_events() -> None:
    world = World()
    world.runner = InProcessRunner(world.types, world.leases)
    await world.source("logger.debug('quiet')\nlogger.info('loud')\nreturn logger.isEnabledFor(10)")
    assert world.events.lines == [(20, "loud")]


async def test_log_lines_of_other_threads_reach_the_events() -> None:
    world = World()
    await world.source("await asyncio.to_thread(logger.info, 'from a thread')\nawait asyncio.sleep(0)")
    assert world.events.lines == [(20, "from a thread")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain é", "plain é"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        ("\u202egnp.exe\u2028", "\\u202egnp.exe\\u2028"),
        ("\ud800", "\\ud800"),
        ("\xa0", "\xa0"),
    ],
)
def test_a_line_has_no_control_characters(text: str, line: str) -> None:
    assert one_line(text) == line


async def test_inputs_are_the_attempts_to_keep_and_change() -> None:
    assert await World().source("users.append(1)\nreturn users", users=[]) == [1]
