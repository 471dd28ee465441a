"""Servers that drain or die, and the next one on the same journal."""

from __future__ import annotations

import asyncio

import pytest

from simulation.virtual_time import simulate, simulated
from simulation.world import (
    CALLER,
    ScriptedRunner,
    World,
    check_history,
    fails,
    flow,
    for_ever,
    kinds,
    only,
    sleeps,
    work,
)
from torana_server.core.errors import ConflictError, Reason, StateError, StepError, UnavailableError
from torana_server.core.values import Payload
from torana_server.execution import AdmissionLimits, EventKind, ExecutionState
from torana_server.execution.events import Cancelled, Completed, Failed, Recovered, StepReused
from torana_server.steps import StepCall, StepEvents
from torana_server.workflow import RetryPolicy

# Draining


@pytest.mark.parametrize("turns", range(6))
def test_a_server_that_hears_of_something_to_claim_while_it_drains_ends_all_the_same(turns: int) -> None:
    async def scenario() -> None:
        async with World().open() as world:
            await asyncio.sleep(1)
            world.engine.claimable()
            for _ in range(turns):
                await asyncio.sleep(0)
            draining = asyncio.ensure_future(world.engine.drain(1))
            await asyncio.wait([draining], timeout=60)
            assert draining.done()

    simulate(scenario())


@simulated
async def test_a_drain_lets_running_steps_finish_starts_nothing_new_and_gives_the_rest_up() -> None:
    first = World()
    first.runner.scripts = {"a": sleeps(10), "b": sleeps(10)}
    async with first.open(grace_s=60):
        execution = await first.start(flow("a", "b"))
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() == 10
    second = first.restarted()
    async with second.open():
        events = await second.watched(execution)
        check_history(events)
        assert kinds(events)[3:] == [
            "step_completed a",
            "recovered",
            "step_started b",
            "step_completed b",
            "completed",
        ]
        assert first.runner.attempts("b") == []
        assert second.runner.attempts("a") == []


@simulated
async def test_what_does_not_finish_within_the_grace_is_interrupted_and_goes_on_elsewhere_at_once() -> None:
    first = World()
    first.runner.scripts = {"a": for_ever}
    async with first.open(grace_s=30):
        execution = await first.start(flow("a"))
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() == 31
    second = first.restarted(ScriptedRunner())
    async with second.open():
        events = await second.watched(execution)
        check_history(events)
        assert asyncio.get_running_loop().time() == 31
        assert only(events, EventKind.EXECUTION_RECOVERED).body == Recovered("server-2")
        assert second.runner.attempts("a") == [2]


@simulated
async def test_a_draining_server_refuses_new_work_and_ends_its_watches() -> None:
    world = World()
    world.runner.scripts = {"a": sleeps(10)}
    async with world.open():
        execution = await world.start(flow("a", "b"))
        watch = await world.engine.watch(CALLER, execution)
        assert await watch.next(1) is not None
        waiting = asyncio.ensure_future(watch.next(1_000))
        draining = asyncio.ensure_future(world.engine.drain(60))
        await asyncio.sleep(1)
        for ask in (world.start("flow"), world.engine.retry(CALLER, execution, "")):
            with pytest.raises(UnavailableError) as refused:
                await ask
            assert refused.value.reason == Reason.SERVER_DRAINING
        await draining
        batch = await waiting
        assert batch is not None
        assert kinds([world.codec.decode(event.data) for event in batch.events]) == ["step_completed a"]
        assert await watch.next(1_000) is None
        assert watch.draining
        watch.close()


@simulated
async def test_a_pending_retry_survives_the_drain_and_keeps_its_time() -> None:
    policy = RetryPolicy(max_attempts=2, initial_interval_s=100, max_interval_s=100, jitter=0)
    first = World()
    first.runner.scripts = {"a": fails(ValueError, times=1)}
    async with first.open(grace_s=60):
        execution = await first.start(flow(work("a", retry=policy)))
        await asyncio.sleep(20)
    assert asyncio.get_running_loop().time() == 20, "nothing ran, so nothing was waited for"
    second = first.restarted()
    async with second.open():
        events = await second.watched(execution)
        check_history(events)
        assert asyncio.get_running_loop().time() == 100
        assert isinstance(events[-1].body, Completed)


@simulated
async def test_a_start_that_is_under_way_when_the_drain_begins_is_not_lost() -> None:
    first = World()
    first.workflows.register(flow("a"))
    async with first.open(grace_s=60):
        first.journal.commit_delay_s = 2
        starting = asyncio.ensure_future(first.start("flow"))
        await asyncio.sleep(1)
        await first.engine.drain(60)
        execution = await starting
    first.journal.commit_delay_s = 0
    second = first.restarted()
    async with second.open():
        assert isinstance((await second.watched(execution))[-1].body, Completed)


@simulated
async def test_queued_executions_of_a_drained_server_are_run_by_the_next() -> None:
    first = World(limits=AdmissionLimits(running=1))
    first.runner.scripts = {"a": sleeps(10)}
    async with first.open(grace_s=60):
        executions = [await first.start(flow("a")) for _ in range(5)]
    second = first.restarted()
    async with second.open():
        for execution in executions:
            check_history(await second.watched(execution))
        assert second.runner.running_max == 1


# Crashes


@simulated
async def test_a_step_that_ran_at_the_crash_runs_again_with_its_checkpoint_and_the_same_key() -> None:
    async def script(call: StepCall, events: StepEvents) -> object:
        if call.restored is None:
            await events.checkpoint(Payload("41"))
            await for_ever(call, events)
        return call.restored

    first = World()
    first.runner.scripts = {"b": script}
    await first.engine.open()
    execution = await first.start(flow("a", "b"))
    await asyncio.sleep(1)
    await first.crash()
    second = first.restarted()
    async with second.open():
        events = await second.watched(execution)
        check_history(events)
        assert kinds(events)[4:] == [
            "step_started b",
            "step_checkpointed b",
            "recovered",
            "step_started b#2",
            "step_completed b#2",
            "completed",
        ]
        (again,) = second.runner.calls
        (before,) = [call for call in first.runner.calls if call.step.name == "b"]
        assert again.restored == Payload("41")
        assert again.idempotency_key == before.idempotency_key == f"{execution}/b"
        assert again.inputs == before.inputs


@simulated
async def test_a_step_that_kills_its_server_again_and_again_fails_and_its_execution_with_it() -> None:
    world = World()
    world.runner.scripts = {"a": for_ever}
    await world.engine.open()
    execution = await world.start(flow("a"))
    await asyncio.sleep(1)
    for _ in range(6):
        await world.crash()
        world = world.restarted()
        await world.engine.open()
        world.engine.go_on()
        await asyncio.sleep(1)
    events = await world.watched(execution)
    check_history(events)
    last = events[-1].body
    assert isinstance(last, Failed)
    assert last.error.reason == Reason.STEP_INTERRUPTED
    await world.engine.drain(0)
    await world.engine.close()


@simulated
async def test_a_cancel_asked_of_a_dead_server_is_honoured_by_the_next_before_anything_starts() -> None:
    first = World()
    first.runner.scripts = {"a": for_ever}
    await first.engine.open()
    execution = await first.start(flow("a"))
    await asyncio.sleep(1)
    await first.crash()
    second = first.restarted()
    await second.engine.open()
    await second.engine.cancel(CALLER, execution, "enough")
    async with second.open():
        events = await second.watched(execution)
        check_history(events)
        assert kinds(events)[3:] == ["recovered", "cancelling", "step_cancelled a", "cancelled"]
        assert second.runner.calls == []


@simulated
async def test_a_recovered_execution_that_waits_for_a_place_can_be_cancelled_meanwhile() -> None:
    first = World()
    first.runner.scripts = {"a": for_ever}
    await first.engine.open()
    executions = [await first.start(flow("a")) for _ in range(2)]
    await asyncio.sleep(1)
    await first.crash()
    second = first.restarted(limits=AdmissionLimits(running=1, queued=0))
    async with second.open():
        await asyncio.sleep(1)
        assert second.runner.attempts("a") == [2]
        waiting = executions[1]
        assert (await second.engine.get(CALLER, waiting)).summary.state is ExecutionState.RUNNING
        await second.engine.cancel(CALLER, waiting, "enough")
        assert isinstance((await second.watched(waiting))[-1].body, Cancelled)
        assert (await second.engine.counts())["admission_running"] == 1


@simulated
async def test_steps_of_a_crashed_execution_may_write_no_more_events_than_are_left(monkeypatch) -> None:
    monkeypatch.setattr("torana_server.execution.inbox.EVENTS_PER_EXECUTION_MAX", 200)
    counts: list[int] = []

    async def script(call: StepCall, events: StepEvents) -> object:
        written = 0
        try:
            while written < 150:
                await events.progress(0.5, "", None)
                written += 1
        except StepError:
            counts.append(written)
            raise
        return await for_ever(call, events)

    first = World()
    first.runner.scripts = {"a": script}
    await first.engine.open()
    execution = await first.start(flow("a"))
    await asyncio.sleep(1)
    await first.crash()
    second = first.restarted()
    async with second.open():
        events = await second.watched(execution)
        last = events[-1].body
        assert isinstance(last, Failed)
        assert last.error.reason == Reason.TOO_MANY_EVENTS
        assert counts == [200 - 153]


# RetryExecution


@simulated
async def test_a_retry_is_a_new_execution_that_reuses_what_was_completed() -> None:
    async with World().open() as world:
        world.runner.scripts = {"b": fails(ValueError, times=1)}
        old = await world.start(flow("a", "b", "c"), parameters=Payload('{"x":1}'), labels={"team": "etl"})
        before = await world.watched(old)
        assert isinstance(before[-1].body, Failed)
        world.runner.scripts = {}
        started = await world.engine.retry(CALLER, old, "")
        new = started.summary.execution
        events = await world.watched(new)
        check_history(events)
        assert kinds(events)[:4] == ["accepted", "step_reused a", "started", "step_started b"]
        reused = only(events, EventKind.STEP_REUSED, "a").body
        assert isinstance(reused, StepReused)
        assert (reused.execution, reused.sequence) == (old, only(before, EventKind.STEP_COMPLETED, "a").sequence)
        assert events[-1].body == Completed({"a": 2, "b": 5, "c": 7})
        assert world.runner.attempts("a") == [1]
        assert world.runner.attempts("b") == [1, 1]
        view = await world.engine.get(CALLER, old)
        assert (view.retried_as, view.summary.state) == (new, ExecutionState.FAILED)
        summary = (await world.engine.get(CALLER, new)).summary
        assert (summary.retry_of, summary.labels) == (old, {"team": "etl"})
        assert await world.events(old) == before


@simulated
async def test_a_retry_of_a_retry_reuses_what_the_first_had_reused() -> None:
    async with World().open() as world:
        world.runner.scripts = {"b": fails(ValueError)}
        first = await world.start(flow("a", "b"))
        await world.watched(first)
        second = (await world.engine.retry(CALLER, first, "")).summary.execution
        await world.watched(second)
        world.runner.scripts = {}
        third = (await world.engine.retry(CALLER, second, "")).summary.execution
        events = await world.watched(third)
        assert isinstance(events[-1].body, Completed)
        reused = only(events, EventKind.STEP_REUSED, "a").body
        assert isinstance(reused, StepReused)
        assert (reused.execution, reused.sequence) == (second, 2)


@simulated
async def test_a_retry_of_an_execution_that_had_done_everything_completes_in_its_first_commit() -> None:
    async def finishes_anyway(call: StepCall, events: StepEvents) -> str:
        try:
            await for_ever(call, events)
        except asyncio.CancelledError:
            return "done"
        return "never"

    async with World().open() as world:
        world.runner.scripts = {"a": finishes_anyway}
        old = await world.start(flow("a"))
        await asyncio.sleep(1)
        await world.engine.cancel(CALLER, old, "enough")
        assert (await world.watched(old))[-1].body == Cancelled("enough", {"a": 5})
        new = (await world.engine.retry(CALLER, old, "")).summary
        assert new.state is ExecutionState.COMPLETED
        events = await world.watched(new.execution)
        check_history(events)
        assert kinds(events) == ["accepted", "step_reused a", "started", "completed"]
        assert (await world.engine.counts())["executions_driven"] == 0


@simulated
async def test_what_is_unfinished_or_completed_cannot_be_retried() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(10)}
        execution = await world.start(flow("a"))
        with pytest.raises(StateError) as refused:
            await world.engine.retry(CALLER, execution, "")
        assert refused.value.reason == Reason.EXECUTION_NOT_FINISHED
        await world.watched(execution)
        with pytest.raises(StateError) as refused:
            await world.engine.retry(CALLER, execution, "")
        assert refused.value.reason == Reason.EXECUTION_FINISHED


@simulated
async def test_the_same_key_retries_once_and_is_never_that_of_the_first_execution() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": fails(ValueError)}
        world.workflows.register(flow("a"))
        old = await world.start("flow", idempotency_key="k")
        await world.watched(old)
        with pytest.raises(ConflictError) as refused:
            await world.engine.retry(CALLER, old, "k")
        assert refused.value.reason == Reason.IDEMPOTENCY_CONFLICT
        first = await world.engine.retry(CALLER, old, "again")
        second = await world.engine.retry(CALLER, old, "again")
        assert (first.attached, second.attached) == (False, True)
        assert first.summary.execution == second.summary.execution
