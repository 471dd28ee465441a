"""Who may run, what the same key means, and what callers that go away mean."""

from __future__ import annotations

import asyncio

import pytest

from simulation.virtual_time import simulated
from simulation.world import (
    CALLER,
    STRANGER,
    World,
    check_history,
    flow,
    for_ever,
    kinds,
    seconds_of,
    sleeps,
    work,
)
from torana_server.core.errors import ConflictError, ExhaustedError, Reason, WorkflowNotFoundError
from torana_server.core.values import Payload
from torana_server.execution import AdmissionLimits, ExecutionRequest, ExecutionState
from torana_server.execution.events import Cancelled, Completed, Failed
from torana_server.workflow import Definition, StepTimeout

# The queue


@simulated
async def test_beyond_the_limit_executions_wait_durably_and_start_in_their_order() -> None:
    async with World(limits=AdmissionLimits(running=2)).open() as world:
        world.runner.scripts = {"a": sleeps(10)}
        executions = [await world.start(flow("a")) for _ in range(6)]
        states = [(await world.engine.get(CALLER, execution)).summary.state for execution in executions]
        assert states == [ExecutionState.RUNNING] * 2 + [ExecutionState.QUEUED] * 4
        ends = [(await world.watched(execution))[-1].time for execution in executions]
        assert ends == sorted(ends)
        assert asyncio.get_running_loop().time() == 30
        assert world.runner.running_max == 2


@simulated
async def test_the_clocks_of_an_execution_start_when_it_does() -> None:
    async with World(limits=AdmissionLimits(running=1)).open() as world:
        world.runner.scripts = {"a": sleeps(50)}
        await world.start(flow("a", timeout_s=60.0))
        events = await world.run(flow("a", timeout_s=60.0))
        check_history(events)
        assert isinstance(events[-1].body, Completed)
        assert [seconds_of(event, events[0]) for event in events] == [0, 50, 50, 100, 100]


@simulated
async def test_beyond_the_queue_a_start_is_refused_with_a_time_to_come_back_and_leaves_nothing() -> None:
    async with World(limits=AdmissionLimits(running=1, queued=1)).open() as world:
        world.runner.scripts = {"a": sleeps(10)}
        first = await world.start(flow("a"))
        second = await world.start("flow")
        with pytest.raises(ExhaustedError) as refused:
            await world.start("flow")
        assert refused.value.reason == Reason.QUEUE_FULL
        assert refused.value.retry_after_s is not None
        assert len(await world.engine.list(CALLER)) == 2
        for execution in (first, second):
            await world.watched(execution)
        assert isinstance((await world.run(flow("a")))[-1].body, Completed)


@simulated
async def test_a_thousand_starts_at_once_pass_neither_limit() -> None:
    async with World(limits=AdmissionLimits(running=3, queued=5)).open() as world:
        world.workflows.register(flow("a"))
        world.runner.scripts = {"a": sleeps(10)}
        world.journal.commit_delay_s = 1
        answers = await asyncio.gather(*(world.start("flow") for _ in range(1_000)), return_exceptions=True)
        started = [answer for answer in answers if isinstance(answer, str)]
        assert len(started) == 8
        assert all(isinstance(answer, ExhaustedError) for answer in answers if not isinstance(answer, str))
        for execution in started:
            assert isinstance((await world.watched(execution))[-1].body, Completed)
        assert world.runner.running_max == 3


@simulated
async def test_a_full_workflow_does_not_hold_up_another() -> None:
    other = Definition(name="other", steps=flow("b").steps)
    async with World(limits=AdmissionLimits(running=9, running_per_workflow=1, queued=1)).open() as world:
        world.runner.scripts = {"a": for_ever}
        await world.start(flow("a"))
        await world.start("flow")
        assert isinstance((await world.run(other))[-1].body, Completed)


@simulated
async def test_who_waits_longer_than_the_queue_timeout_fails_and_never_earlier() -> None:
    async with World(limits=AdmissionLimits(running=1), queue_timeout_s=30).open() as world:
        world.runner.scripts = {"a": sleeps(100)}
        await world.start(flow("a"))
        events = await world.run(flow("a"))
        assert kinds(events) == ["accepted", "failed"]
        last = events[-1].body
        assert isinstance(last, Failed)
        assert last.error.reason == Reason.QUEUE_TIMEOUT
        assert seconds_of(events[-1], events[0]) == 30
        assert (await world.engine.counts())["admission_queued"] == 0


@simulated
async def test_one_that_another_server_left_in_its_queue_waits_no_longer_than_it_would_have_there() -> None:
    first = World(limits=AdmissionLimits(running=1), queue_timeout_s=30)
    first.runner.scripts = {"a": sleeps(100)}
    await first.engine.open()
    running, waiting = await first.start(flow("a")), await first.start("flow")
    await asyncio.sleep(10)
    await first.crash()
    await first.engine.close()
    async with first.restarted().open() as world:
        events = await world.watched(waiting)
        assert kinds(events) == ["accepted", "recovered", "failed"]
        last = events[-1].body
        assert isinstance(last, Failed)
        assert last.error.reason == Reason.QUEUE_TIMEOUT
        assert seconds_of(events[-1], events[0]) == 30
        assert isinstance((await world.watched(running))[-1].body, Completed)
        assert (await world.engine.counts())["admission_queued"] == 0


@simulated
async def test_one_that_had_started_elsewhere_is_past_the_queue_timeout() -> None:
    first = World(limits=AdmissionLimits(running=2), queue_timeout_s=30)
    first.runner.scripts = {"a": sleeps(100)}
    await first.engine.open()
    started = [await first.start(flow("a")), await first.start("flow")]
    await first.crash()
    await first.engine.close()
    async with first.restarted(limits=AdmissionLimits(running=1)).open() as world:
        for execution in started:
            assert isinstance((await world.watched(execution))[-1].body, Completed)


@simulated
async def test_a_queued_execution_can_be_cancelled_at_once() -> None:
    async with World(limits=AdmissionLimits(running=1), queue_timeout_s=30).open() as world:
        world.runner.scripts = {"a": for_ever}
        await world.start(flow("a"))
        execution = await world.start("flow")
        await world.engine.cancel(CALLER, execution, "enough")
        assert kinds(await world.watched(execution)) == ["accepted", "cancelling", "cancelled"]


@simulated
async def test_a_cancel_that_comes_with_the_place_wins() -> None:
    async with World(limits=AdmissionLimits(running=1)).open() as world:
        world.runner.scripts = {"a": sleeps(10)}
        await world.start(flow("a"))
        execution = await world.start("flow")
        world.journal.commit_delay_s = 1
        await asyncio.sleep(10.5)
        await world.engine.cancel(CALLER, execution, "enough")
        events = await world.watched(execution)
        check_history(events)
        assert isinstance(events[-1].body, Cancelled)


# Keys


@simulated
async def test_a_hundred_racing_starts_with_one_key_make_one_execution() -> None:
    async with World(limits=AdmissionLimits(running=5)).open() as world:
        world.workflows.register(flow("a"))
        world.journal.commit_delay_s = 1
        request = ExecutionRequest(workflow="flow", idempotency_key="k")
        started = await asyncio.gather(*(world.engine.start(CALLER, request) for _ in range(100)))
        assert len({one.summary.execution for one in started}) == 1
        assert [one.attached for one in started].count(False) == 1
        await world.watched(started[0].summary.execution)
        assert len(world.runner.calls) == 1
        counts = await world.engine.counts()
        assert (counts["admission_running"], counts["admission_queued"]) == (0, 0)


@simulated
async def test_the_same_key_with_another_request_is_a_conflict_that_names_the_execution() -> None:
    async with World().open() as world:
        execution = await world.start(flow("a"), idempotency_key="k")
        with pytest.raises(ConflictError) as refused:
            await world.start("flow", idempotency_key="k", parameters=Payload('{"x":1}'))
        assert refused.value.reason == Reason.IDEMPOTENCY_CONFLICT
        assert refused.value.metadata == {"execution": execution}


@simulated
async def test_a_key_belongs_to_its_tenant_and_workflow() -> None:
    other = Definition(name="other", steps=flow("a").steps)
    async with World().open() as world:
        first = await world.start(flow("a"), idempotency_key="k")
        second = await world.start(other, idempotency_key="k")
        third = await world.engine.start(STRANGER, ExecutionRequest(workflow="flow", idempotency_key="k"))
        assert len({first, second, third.summary.execution}) == 3


@simulated
async def test_a_known_key_attaches_whatever_would_be_refused_now() -> None:
    first = World(limits=AdmissionLimits(running=1, queued=0))
    first.runner.scripts = {"a": for_ever}
    async with first.open():
        execution = await first.start(flow("a"), idempotency_key="k")
        assert await first.start("flow", idempotency_key="k") == execution, "the queue is full"
        with pytest.raises(ExhaustedError):
            await first.start("flow", idempotency_key="another")
    second = World(journal=first.journal)
    async with second.open():
        assert await second.start("flow", idempotency_key="k") == execution, "the workflow is not registered any more"
        with pytest.raises(WorkflowNotFoundError):
            await second.start("flow", idempotency_key="another")
        assert isinstance((await second.watched(execution))[-1].body, Completed)


@simulated
async def test_a_caller_that_goes_while_its_start_is_under_way_leaves_an_execution_that_runs() -> None:
    async with World().open() as world:
        world.workflows.register(flow("a"))
        world.journal.commit_delay_s = 1
        caller = asyncio.ensure_future(world.start("flow"))
        await asyncio.sleep(0.5)
        caller.cancel()
        await asyncio.sleep(10)
        (view,) = await world.engine.list(CALLER)
        assert view.summary.state is ExecutionState.COMPLETED


# Callers that go away


GUARDED = {"cancel_on_disconnect": True, "disconnect_grace_s": 30.0}


@simulated
async def test_an_execution_whose_callers_are_gone_for_the_grace_is_cancelled() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": for_ever}
        execution = await world.start(flow("a"), **GUARDED)
        watch = await world.engine.watch(CALLER, execution)
        await asyncio.sleep(100)
        watch.close()
        await asyncio.sleep(29)
        assert (await world.engine.get(CALLER, execution)).summary.state is ExecutionState.RUNNING
        await asyncio.sleep(1)
        events = await world.watched(execution)
        assert isinstance(events[-1].body, Cancelled)
        assert seconds_of(events[-1], events[0]) == 130


@simulated
async def test_coming_back_or_another_caller_keeps_it_alive() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(200)}
        execution = await world.start(flow("a"), **GUARDED)
        first = await world.engine.watch(CALLER, execution)
        first.close()
        await asyncio.sleep(29)
        second = await world.engine.watch(CALLER, execution)
        third = await world.engine.watch(CALLER, execution)
        await asyncio.sleep(60)
        second.close()
        await asyncio.sleep(60)
        third.close()
        await asyncio.sleep(29)
        assert isinstance((await world.watched(execution))[-1].body, Completed)


@simulated
async def test_those_who_watched_while_it_was_recovered_count() -> None:
    first = World(limits=AdmissionLimits(running=1))
    first.runner.scripts = {"a": for_ever}
    async with first.open():
        execution = await first.start(flow("a"), **GUARDED)
        await asyncio.sleep(1)
    second = first.restarted()
    second.runner.scripts = {"a": sleeps(100)}
    await second.engine.open()
    watch = await second.engine.watch(CALLER, execution, 3)
    async with second.open():
        await asyncio.sleep(90)
        watch.close()
        assert isinstance((await second.watched(execution))[-1].body, Completed)


@simulated
async def test_without_the_wish_nobody_needs_to_be_there() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(1_000)}
        execution = await world.start(flow(work("a", timeout=StepTimeout(attempt_s=2_000))))
        watch = await world.engine.watch(CALLER, execution)
        watch.close()
        await asyncio.sleep(2_000)
        assert (await world.engine.get(CALLER, execution)).summary.state is ExecutionState.COMPLETED


@simulated
async def test_a_caller_is_missed_even_while_the_journal_is_away() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": for_ever}
        execution = await world.start(flow("a"), **GUARDED)
        await asyncio.sleep(20)
        world.journal.available = False
        await asyncio.sleep(60)
        world.journal.available = True
        await asyncio.sleep(10)
        assert (await world.engine.get(CALLER, execution)).summary.state is ExecutionState.CANCELLED
