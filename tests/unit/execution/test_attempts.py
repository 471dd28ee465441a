"""Attempts between a runner and an inbox, without an executor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from simulation.virtual_time import simulated
from simulation.world import CALLER, SECRET, Routed, Script, ScriptedRunner, fails, sleeps, work
from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import INLINE_VALUE_BYTES_MAX
from torana_server.core.values import Payload
from torana_server.execution.attempts import Attempts, Outcome, check_size
from torana_server.execution.events import LogLevel, StepEmitted, StepLog, StepProgress
from torana_server.execution.inbox import BUFFER_EVENTS_MAX, Inbox
from torana_server.execution.scheduler import StopReason
from torana_server.steps import StepCall, StepEvents

GRACE_S = 10.0


def call_of(step: str, number: int) -> StepCall:
    return StepCall(
        principal=CALLER,
        execution="e",
        workflow="flow",
        revision="r",
        step=work(step),
        attempt=number,
        config={},
        inputs={},
        context={},
    )


class Bench:
    def __init__(self, script: Script, call: Callable[[str, int], StepCall] = call_of) -> None:
        self.inbox = Inbox()
        self.runner = ScriptedRunner({"a": script})
        self.attempts = Attempts(self.runner, self.inbox, call, lambda text: text.replace(SECRET, "***"), GRACE_S)
        self.attempts.start("a", 1)

    async def outcome(self) -> Outcome:
        while not self.inbox.outcomes:
            await self.inbox.wait()
        return self.inbox.outcomes.pop(0)

    async def error(self) -> BaseException:
        outcome = await self.outcome()
        assert outcome.error is not None
        return outcome.error


async def write(events: StepEvents) -> None:
    await events.progress(0.5, "half", None)


@simulated
async def test_an_attempt_ends_with_its_result() -> None:
    bench = Bench(sleeps(3, {"rows": 2}))
    outcome = await bench.outcome()
    assert outcome.result is not None
    assert outcome.result.output == Payload('{"rows":2}')
    assert bench.attempts.settle(outcome)
    assert not bench.attempts


class OwnBaseError(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [ValueError, asyncio.CancelledError, SystemExit, GeneratorExit, OwnBaseError, StopAsyncIteration]
)
def test_whatever_a_step_raises_by_itself_is_how_it_ended(error: type[BaseException]) -> None:
    @simulated
    async def scenario() -> None:
        assert isinstance(await Bench(fails(error)).error(), error)

    scenario()


@simulated
async def test_inputs_that_cannot_be_had_are_the_attempts_error() -> None:
    def call(step: str, number: int) -> StepCall:
        raise StepError("no such path", reason=Reason.INPUT_NOT_FOUND)

    error = await Bench(sleeps(1), call).error()
    assert isinstance(error, StepError)
    assert error.reason == Reason.INPUT_NOT_FOUND


@simulated
async def test_a_stopped_attempt_sees_its_cancellation_and_may_clean_up() -> None:
    cleaned: list[float] = []

    async def script(call: StepCall, events: StepEvents) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(5)
            cleaned.append(asyncio.get_running_loop().time())

    bench = Bench(script)
    await asyncio.sleep(1)
    bench.attempts.stop("a", StopReason.TIMEOUT)
    bench.attempts.stop("a", StopReason.ENDING)
    outcome = await bench.outcome()
    assert isinstance(outcome.error, asyncio.CancelledError)
    assert outcome.attempt.stopping is StopReason.TIMEOUT, "the first reason stands"
    assert cleaned == [6]
    assert bench.runner.abandoned == []


@simulated
async def test_an_attempt_that_is_stopped_before_its_first_turn_ends_at_once() -> None:
    bench = Bench(sleeps(1_000))
    bench.attempts.stop("a", StopReason.ENDING)
    outcome = await bench.outcome()
    assert isinstance(outcome.error, asyncio.CancelledError)
    assert bench.attempts.settle(outcome)
    assert asyncio.get_running_loop().time() == 0
    assert bench.runner.calls == []


@simulated
async def test_an_attempt_that_has_ended_already_cannot_be_stopped() -> None:
    bench = Bench(fails(ValueError))
    await asyncio.sleep(1)
    bench.attempts.stop("a", StopReason.TIMEOUT)
    outcome = await bench.outcome()
    assert isinstance(outcome.error, ValueError)
    assert outcome.attempt.stopping is None


async def deaf(call: StepCall, events: StepEvents) -> str:
    """Ignores its cancellation for 100 s, then goes on as if nothing had been."""
    end = asyncio.get_running_loop().time() + 100
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    await write(events)
    return "late"


@simulated
async def test_an_attempt_deaf_to_its_cancellation_is_abandoned_after_the_grace_and_its_late_result_refused() -> None:
    bench = Bench(deaf)
    await asyncio.sleep(1)
    bench.attempts.stop("a", StopReason.TIMEOUT)
    outcome = await bench.outcome()
    assert asyncio.get_running_loop().time() == 1 + GRACE_S
    assert [call.attempt for call in bench.runner.abandoned] == [1]
    assert bench.attempts.settle(outcome)
    bench.attempts.start("a", 2)
    late = await bench.outcome()
    assert isinstance(late.error, StepError), "its late call was refused"
    assert not bench.attempts.settle(late), "its late end counts for nothing"
    assert bench.inbox.take_written() == ([], [])


@simulated
async def test_a_write_that_waits_for_room_is_refused_once_the_attempt_is_over() -> None:
    async def script(call: StepCall, events: StepEvents) -> None:
        for _ in range(BUFFER_EVENTS_MAX + 1):
            try:
                await write(events)
            except asyncio.CancelledError:
                await write(events)

    bench = Bench(script)
    await asyncio.sleep(1)
    bench.attempts.stop("a", StopReason.TIMEOUT)
    assert bench.attempts.settle(await bench.outcome())
    written, _ = bench.inbox.take_written()
    assert len(written) == BUFFER_EVENTS_MAX
    late = await bench.error()
    assert isinstance(late, StepError)
    assert bench.inbox.take_written() == ([], [])


@simulated
async def test_when_the_execution_leaves_its_attempts_may_clean_up_and_the_deaf_are_abandoned() -> None:
    bench = Bench(sleeps(1_000))
    bench.runner.scripts["b"] = deaf
    bench.attempts.start("b", 1)
    await asyncio.sleep(1)
    await bench.attempts.end_all()
    assert asyncio.get_running_loop().time() == 1 + GRACE_S
    assert [call.step.name for call in bench.runner.abandoned] == ["b"]
    assert not bench.attempts


async def refused(write_one: Callable[[StepEvents], Awaitable[None]]) -> BaseException:
    async def script(call: StepCall, events: StepEvents) -> Any:
        await write_one(events)

    return await Bench(script).error()


@simulated
async def test_values_above_the_inline_limit_are_refused_wherever_they_are_written() -> None:
    large = Payload(f'"{"x" * INLINE_VALUE_BYTES_MAX}"')
    for write_one in (
        lambda events: events.emit("t", large),
        lambda events: events.checkpoint(large),
        lambda events: events.progress(0.1, "", large),
    ):
        error = await refused(write_one)
        assert isinstance(error, StepError)
        assert error.reason == Reason.VALUE_TOO_LARGE
        assert error.metadata["limitBytes"] == str(INLINE_VALUE_BYTES_MAX)
    error = await Bench(sleeps(0, large)).error()
    assert isinstance(error, StepError)
    assert error.reason == Reason.VALUE_TOO_LARGE


@pytest.mark.parametrize(
    ("payload", "fits"),
    [
        (Payload("x" * INLINE_VALUE_BYTES_MAX), True),
        (Payload("x" * (INLINE_VALUE_BYTES_MAX + 1)), False),
        (Payload("€" * (INLINE_VALUE_BYTES_MAX // 3)), True),
        (Payload("€" * (INLINE_VALUE_BYTES_MAX // 3 + 1)), False),
        (Payload("x" * (INLINE_VALUE_BYTES_MAX - 10), {"/pattern": "decimal"}), False),
    ],
)
def test_the_limit_counts_bytes_types_included(payload: Payload, fits: bool) -> None:
    if fits:
        assert check_size(payload) is payload
    else:
        with pytest.raises(StepError):
            check_size(payload)


@pytest.mark.parametrize("route", ["\ud800", "x" * 1_000, 7])
def test_a_route_that_no_event_can_hold_fails_the_step(route: Any) -> None:
    @simulated
    async def scenario() -> None:
        error = await Bench(sleeps(0, Routed({}, route))).error()
        assert isinstance(error, StepError)
        assert error.reason == Reason.VALUE_NOT_STORABLE

    scenario()


@simulated
async def test_what_steps_write_is_redacted_bounded_and_unicode() -> None:
    async def script(call: StepCall, events: StepEvents) -> None:
        await events.progress(0.5, f"with {SECRET}", None)
        await events.emit(f"to {SECRET}", Payload("1"))
        events.log(20, "half \ud800")
        events.log(50, "x" * 100_000)

    bench = Bench(script)
    await bench.outcome()
    progress, emitted, line, long = [fact.body for fact in bench.inbox.take_written()[0]]
    assert progress == StepProgress(0.5, "with ***")
    assert emitted == StepEmitted("to ***", Payload("1"))
    assert line == StepLog(LogLevel.INFO, "half \\ud800")
    assert isinstance(long, StepLog)
    assert (long.level, len(long.message)) == (LogLevel.ERROR, 8_000)


@simulated
async def test_an_endless_topic_is_refused() -> None:
    assert isinstance(await refused(lambda events: events.emit("t" * 1_000, Payload("1"))), ValueError)


@simulated
async def test_log_lines_that_do_not_fit_are_dropped_and_counted_in_the_next_that_does() -> None:
    go_on = asyncio.Event()

    async def script(call: StepCall, events: StepEvents) -> None:
        for number in range(BUFFER_EVENTS_MAX + 7):
            events.log(20, str(number))
        await go_on.wait()
        events.log(20, "next")
        events.log(20, "last")

    bench = Bench(script)
    await asyncio.sleep(1)
    bench.inbox.take_written()
    go_on.set()
    await bench.outcome()
    lines = [fact.body for fact in bench.inbox.take_written()[0]]
    assert lines == [StepLog(LogLevel.INFO, "next", dropped=7), StepLog(LogLevel.INFO, "last")]
