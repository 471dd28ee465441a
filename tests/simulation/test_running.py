"""Executions from their start to their end: steps, failures, retries, timeouts, cancels."""

from __future__ import annotations

import asyncio

import pytest

from simulation.virtual_time import EPOCH, simulated
from simulation.world import (
    CALLER,
    SECRET,
    STRANGER,
    Routed,
    World,
    check_history,
    fails,
    flow,
    for_ever,
    kinds,
    only,
    seconds_of,
    sleeps,
    work,
)
from torana_server.core.errors import InvalidRequestError, Reason, StateError, StepError
from torana_server.core.limits import INLINE_VALUE_BYTES_MAX
from torana_server.core.values import Payload, decode
from torana_server.execution import EventKind, ExecutionState
from torana_server.execution.events import (
    Cancelled,
    Completed,
    Failed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepLog,
    StepProgress,
    StepRetrying,
)
from torana_server.execution.inbox import BUFFER_EVENTS_MAX
from torana_server.steps import StepCall, StepEvents
from torana_server.workflow import RetryPolicy, Step, StepTimeout


@simulated
async def test_three_steps_hand_on_their_outputs_and_the_last_event_says_where_they_are() -> None:
    async with World().open() as world:
        events = await world.run(flow("a", "b", "c"))
        assert kinds(events) == [
            "accepted",
            "started",
            "step_started a",
            "step_completed a",
            "step_started b",
            "step_completed b",
            "step_started c",
            "step_completed c",
            "completed",
        ]
        assert events[-1].body == Completed({"a": 4, "b": 6, "c": 8})
        assert [call.inputs for call in world.runner.calls] == [{}, {"step": "a"}, {"step": "b"}]
        check_history(events)


@simulated
async def test_three_steps_take_four_commits() -> None:
    async with World().open() as world:
        execution = await world.start(flow("a", "b", "c"))
        await world.watched(execution)
        assert [len(events) for events in world.journal.appended] == [2, 2, 2]


@simulated
async def test_independent_steps_run_at_the_same_time() -> None:
    async with World().open() as world:
        world.runner.scripts = {name: sleeps(10) for name in "abc"}
        events = await world.run(flow("a", "b", "c", "d", connections=["a>d", "b>d", "c>d"]))
        assert world.runner.running_max == 3
        assert seconds_of(events[-1], events[0]) == 10


@simulated
async def test_each_attempt_gets_inputs_of_its_own() -> None:
    async def spoil(call: StepCall, events: StepEvents) -> object:
        rows = call.inputs["rows"]
        assert isinstance(rows, list)
        rows.append("spoilt")
        call.context["user"] = "eve"
        return rows

    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(0, {"rows": []}), "b": spoil, "c": spoil}
        events = await world.run(flow("a", "b", "c", connections=["a>b", "a>c"]))
        outputs = [decode(event.body.output) for event in events if isinstance(event.body, StepCompleted)]
        assert outputs == [{"rows": []}, ["spoilt"], ["spoilt"]]


@simulated
async def test_a_switch_runs_its_route_and_skips_the_other() -> None:
    async with World().open() as world:
        world.runner.scripts["s"] = sleeps(0, Routed({}, "left"))
        switch = Step(name="s", type="switch", config={"routes": ["left", "right"]})
        events = await world.run(flow(switch, "a", "b", connections=["s>a:left", "s>b:right"]))
        assert kinds(events)[3:] == [
            "step_completed s",
            "step_started a",
            "step_skipped b",
            "step_completed a",
            "completed",
        ]


# failures


@simulated
async def test_when_a_step_fails_the_running_ones_are_cancelled_and_partial_results_stay() -> None:
    async with World().open() as world:
        world.runner.scripts = {"b": fails(lambda: ValueError(f"no {SECRET}")), "c": for_ever}
        events = await world.run(flow("a", "b", "c", "d", connections=["a>b", "a>c", "b>d"]))
        assert kinds(events)[3:] == [
            "step_completed a",
            "step_started b",
            "step_started c",
            "step_failed b",
            "step_cancelled c",
            "failed",
        ]
        last = events[-1].body
        assert isinstance(last, Failed)
        assert (last.error.type, last.error.message, last.error.step) == ("ValueError", "no ***", "b")
        assert last.outputs == {"a": 4}
        assert SECRET.encode() not in b"".join(event.data for event in await world.stored(await newest(world)))


async def newest(world: World) -> str:
    found = await world.engine.list(CALLER, limit=1)
    return found[0].summary.execution


@simulated
async def test_an_error_route_receives_the_error_as_data() -> None:
    async with World().open() as world:
        world.runner.scripts["a"] = fails(lambda: KeyError("customers"))
        events = await world.run(flow("a", "b", connections=["a>b:error"]))
        assert isinstance(events[-1].body, Completed)
        (call,) = [call for call in world.runner.calls if call.step.name == "b"]
        assert call.inputs == {
            "type": "KeyError",
            "message": "'customers'",
            "attempt": 1,
            "details": {"reason": "STEP_FAILED"},
        }


class OddError(BaseException):
    pass


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, GeneratorExit, OddError, RecursionError])
def test_whatever_a_step_raises_by_itself_fails_it_and_wedges_nothing(error: type[BaseException]) -> None:
    @simulated
    async def scenario() -> None:
        async with World().open() as world:
            world.runner.scripts["a"] = fails(error)
            events = await world.run(flow("a"))
            assert kinds(events)[-2:] == ["step_failed a", "failed"]
            failed = only(events, EventKind.STEP_FAILED, "a").body
            assert isinstance(failed, StepFailed)
            assert failed.error.type == error.__name__

    scenario()


@simulated
async def test_values_too_large_to_store_fail_their_step_and_not_the_server() -> None:
    async with World().open() as world:
        world.runner.scripts["a"] = sleeps(0, "x" * INLINE_VALUE_BYTES_MAX)
        events = await world.run(flow("a", "b"))
        failed = only(events, EventKind.STEP_FAILED, "a").body
        assert isinstance(failed, StepFailed)
        assert failed.error.reason == Reason.VALUE_TOO_LARGE
        assert failed.error.retryable is False


@simulated
async def test_a_missing_input_fails_the_step_that_needs_it() -> None:
    definition = flow("a", work("b", inputs={"x": "{{a.nothing}}"}), connections=["a>b"])
    async with World().open() as world:
        events = await world.run(definition)
        failed = only(events, EventKind.STEP_FAILED, "b").body
        assert isinstance(failed, StepFailed)
        assert failed.error.reason == Reason.TEMPLATE_ERROR
        assert world.runner.attempts("b") == []


# retries


@simulated
async def test_retries_wait_as_long_as_the_policy_says_with_jitter_drawn_once() -> None:
    policy = RetryPolicy(max_attempts=4, initial_interval_s=2, backoff=3, max_interval_s=10, jitter=0.5)
    async with World(draws=[0.0, 0.5, 1 / 3]).open() as world:
        world.runner.scripts["a"] = fails(ConnectionError, times=3)
        events = await world.run(flow(work("a", retry=policy)))
        starts = [event for event in events if event.body.kind is EventKind.STEP_STARTED]
        assert [seconds_of(start, events[0]) for start in starts] == pytest.approx(
            [0, 2, 2 + 4.5, 2 + 4.5 + 10 * 5 / 6]
        )
        assert world.runner.attempts("a") == [1, 2, 3, 4]
        assert world.draws == []
        retrying = [event.body for event in events if isinstance(event.body, StepRetrying)]
        assert [body.next_attempt_time for body in retrying] == [start.time for start in starts[1:]]


@simulated
async def test_after_the_last_attempt_the_step_fails_with_its_last_error() -> None:
    policy = RetryPolicy(max_attempts=3, jitter=0)
    async with World().open() as world:
        attempts = iter(range(9))
        world.runner.scripts["a"] = fails(lambda: ValueError(str(next(attempts))))
        events = await world.run(flow(work("a", retry=policy)))
        assert kinds(events)[-4:] == ["step_retrying a#2", "step_started a#3", "step_failed a#3", "failed"]
        last = events[-1].body
        assert isinstance(last, Failed)
        assert (last.error.message, last.error.attempt) == ("2", 3)


# time


@simulated
async def test_an_attempt_is_cancelled_at_its_timeout_and_tried_again() -> None:
    step = work("a", timeout=StepTimeout(attempt_s=5), retry=RetryPolicy(max_attempts=2, jitter=0))
    async with World().open() as world:
        world.runner.scripts["a"] = for_ever
        events = await world.run(flow(step))
        assert [round(seconds_of(event, events[0]), 3) for event in events[3:]] == [5, 6, 11, 11]
        last = events[-1].body
        assert isinstance(last, Failed)
        assert last.error.reason == Reason.STEP_TIMEOUT
        assert world.runner.calls[0].deadline == EPOCH + 5_000_000


@simulated
async def test_no_timeout_is_early_even_when_the_clock_is_set_back() -> None:
    async with World().open() as world:
        world.runner.scripts["a"] = for_ever
        execution = await world.start(flow(work("a", timeout=StepTimeout(attempt_s=60))))
        await asyncio.sleep(10)
        world.clock.shift_s = -600
        events = await world.watched(execution)
        check_history(events)
        assert seconds_of(events[-1], events[0]) >= 60


@simulated
async def test_an_execution_that_takes_too_long_fails_with_what_it_has() -> None:
    async with World().open() as world:
        world.runner.scripts = {"b": for_ever}
        events = await world.run(flow("a", "b", timeout_s=30.0))
        last = events[-1].body
        assert isinstance(last, Failed)
        assert last.error.reason == Reason.EXECUTION_TIMEOUT
        assert list(last.outputs) == ["a"]
        assert kinds(events)[-2] == "step_cancelled b"
        assert seconds_of(events[-1], events[0]) == 30


@simulated
async def test_a_request_can_only_shorten_the_timeout() -> None:
    async with World().open() as world:
        world.runner.scripts["a"] = for_ever
        shorter = await world.run(flow("a", timeout_s=30.0), timeout_s=10.0)
        longer = await world.run(flow("a", timeout_s=30.0), timeout_s=60.0)
        assert seconds_of(shorter[-1], shorter[0]) == 10
        assert seconds_of(longer[-1], longer[0]) == 30


# cancels


@simulated
async def test_a_cancel_ends_what_runs_after_its_cleanup_with_the_partial_result() -> None:
    cleaned = asyncio.Event()

    async def script(call: StepCall, events: StepEvents) -> None:
        try:
            await for_ever(call, events)
        finally:
            await asyncio.sleep(3)
            cleaned.set()

    async with World().open() as world:
        world.runner.scripts["b"] = script
        execution = await world.start(flow("a", "b", "c"))
        await asyncio.sleep(10)
        summary = await world.engine.cancel(CALLER, execution, "no more \ud800")
        assert summary.state in (ExecutionState.RUNNING, ExecutionState.CANCELLING)
        events = await world.watched(execution)
        assert cleaned.is_set()
        assert seconds_of(events[-1], events[0]) == 13
        assert kinds(events)[-3:] == ["cancelling", "step_cancelled b", "cancelled"]
        assert events[-1].body == Cancelled("no more \\ud800", {"a": 4})
        assert (await world.engine.get(CALLER, execution)).summary.state is ExecutionState.CANCELLED


@pytest.mark.parametrize("at_s", [0.0, 1.0, 4.0, 6.0, 11.0])
def test_a_cancel_at_any_point_ends_cancelled(at_s: float) -> None:
    @simulated
    async def scenario() -> None:
        async with World().open() as world:
            world.runner.scripts = {"a": fails(ValueError, times=1), "b": sleeps(5), "c": sleeps(5)}
            step = work("a", retry=RetryPolicy(max_attempts=2, initial_interval_s=3, jitter=0))
            execution = await world.start(flow(step, "b", "c"))
            await asyncio.sleep(at_s)
            await world.engine.cancel(CALLER, execution, "enough")
            events = await world.watched(execution)
            check_history(events)
            assert isinstance(events[-1].body, Cancelled)
            assert seconds_of(events[-1], events[0]) == at_s

    scenario()


@simulated
async def test_a_step_deaf_to_its_cancel_is_abandoned_and_what_it_does_later_is_refused() -> None:
    refused: list[BaseException] = []

    async def deaf(call: StepCall, events: StepEvents) -> str:
        for _ in range(2):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue
        try:
            await events.emit("late", Payload("1"))
        except StepError as error:
            refused.append(error)
        return "late"

    async with World().open() as world:
        world.runner.scripts["a"] = deaf
        execution = await world.start(flow("a"))
        await asyncio.sleep(1)
        await world.engine.cancel(CALLER, execution, "enough")
        events = await world.watched(execution)
        assert seconds_of(events[-1], events[0]) == 11
        assert only(events, EventKind.STEP_CANCELLED, "a").body == StepCancelled("the execution is ending")
        assert len(world.runner.abandoned) == 1
        await asyncio.sleep(200)
        assert len(refused) == 1
        assert await world.events(execution) == events


@simulated
async def test_what_is_finished_cannot_be_cancelled() -> None:
    async with World().open() as world:
        execution = await world.start(flow("a"))
        await world.watched(execution)
        with pytest.raises(StateError) as refused:
            await world.engine.cancel(CALLER, execution, "")
        assert refused.value.reason == Reason.EXECUTION_FINISHED


@simulated
async def test_another_tenant_sees_and_touches_nothing() -> None:
    async with World().open() as world:
        world.runner.scripts["a"] = for_ever
        execution = await world.start(flow("a"))
        for ask in (
            world.engine.get(STRANGER, execution),
            world.engine.cancel(STRANGER, execution, ""),
            world.engine.watch(STRANGER, execution),
            world.engine.retry(STRANGER, execution, ""),
        ):
            with pytest.raises(LookupError):
                await ask
        assert await world.engine.list(STRANGER) == []


# what steps write


@simulated
async def test_what_steps_write_comes_in_their_order_before_their_end() -> None:
    async def script(call: StepCall, events: StepEvents) -> None:
        for number in range(3 * BUFFER_EVENTS_MAX):
            await events.progress(number / 1_000, "", None)

    async with World().open() as world:
        world.runner.scripts["a"] = script
        events = await world.run(flow("a"))
        fractions = [event.body.fraction for event in events if isinstance(event.body, StepProgress)]
        assert fractions == [number / 1_000 for number in range(3 * BUFFER_EVENTS_MAX)]
        check_history(events)


@simulated
async def test_a_step_that_writes_too_many_events_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torana_server.execution.inbox.EVENTS_PER_EXECUTION_MAX", 500)

    async def script(call: StepCall, events: StepEvents) -> None:
        while True:
            await events.progress(0.5, "", None)

    async with World().open() as world:
        world.runner.scripts["a"] = script
        events = await world.run(flow("a"))
        failed = only(events, EventKind.STEP_FAILED, "a").body
        assert isinstance(failed, StepFailed)
        assert failed.error.reason == Reason.TOO_MANY_EVENTS
        assert kinds(events).count("step_progress a") == 500


@simulated
async def test_log_lines_beyond_the_buffer_are_dropped_counted_and_wait_for_nobody() -> None:
    async def script(call: StepCall, events: StepEvents) -> float:
        loop = asyncio.get_running_loop()
        for number in range(BUFFER_EVENTS_MAX + 10):
            events.log(20, str(number))
        waited_s = loop.time()
        await asyncio.sleep(60)
        events.log(30, "after")
        return waited_s

    async with World().open() as world:
        world.runner.scripts["a"] = script
        events = await world.run(flow("a"))
        lines = [event.body for event in events if isinstance(event.body, StepLog)]
        assert len(lines) == BUFFER_EVENTS_MAX + 1
        assert (lines[-1].message, lines[-1].dropped) == ("after", 10)


@simulated
async def test_lines_dropped_at_the_very_end_of_an_attempt_are_counted_before_its_end() -> None:
    async def script(call: StepCall, events: StepEvents) -> None:
        for number in range(BUFFER_EVENTS_MAX + 10):
            events.log(20, str(number))
        if call.attempt == 1:
            raise ValueError("once")

    async with World().open() as world:
        world.runner.scripts["a"] = script
        events = await world.run(flow(work("a", retry=RetryPolicy(max_attempts=2))))
        for end in (EventKind.STEP_RETRYING, EventKind.STEP_COMPLETED):
            ended = only(events, end, "a")
            said = events[ended.sequence - 2]
            assert isinstance(said.body, StepLog)
            assert (said.attempt, said.body.dropped) == (ended.attempt, 10)
        check_history(events)


@simulated
async def test_a_request_too_large_for_its_event_is_refused_and_leaves_nothing() -> None:
    large = Payload('{"a":"%s"}' % ("x" * (INLINE_VALUE_BYTES_MAX - 20)))
    async with World().open() as world:
        world.workflows.register(flow("a"))
        labels = {f"label{n}": "€" * 256 for n in range(30)}
        with pytest.raises(InvalidRequestError) as refused:
            await world.start("flow", parameters=large, context=large, labels=labels)
        assert refused.value.reason == Reason.VALUE_TOO_LARGE
        assert (await world.engine.counts())["admission_running"] == 0
