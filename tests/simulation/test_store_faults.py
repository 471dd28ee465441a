"""A store that is away, loses its answers, is damaged, or belongs to another server now."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest

from simulation.virtual_time import simulated
from simulation.world import CALLER, World, check_history, fails, flow, for_ever, kinds, sleeps, work
from torana_server.core.errors import Reason, UnavailableError
from torana_server.core.values import Payload
from torana_server.execution import EventKind, ExecutionRequest, ExecutionState
from torana_server.execution.events import Completed
from torana_server.steps import StepCall, StepEvents
from torana_server.workflow import Durability, RetryPolicy


@simulated
async def test_what_runs_waits_for_an_unavailable_journal_and_goes_on() -> None:
    async with World().open() as world:
        world.runner.scripts = {name: sleeps(10) for name in "abc"}
        execution = await world.start(flow("a", "b", "c"))
        await asyncio.sleep(5)
        world.journal.available = False
        await asyncio.sleep(600)
        assert world.runner.attempts("b") == [], "nothing goes on before it is durable"
        world.journal.available = True
        events = await world.watched(execution)
        check_history(events)
        assert isinstance(events[-1].body, Completed)
        assert [len(world.runner.attempts(name)) for name in "abc"] == [1, 1, 1]


@simulated
async def test_new_work_is_refused_clearly_while_the_journal_is_away() -> None:
    async with World().open() as world:
        world.workflows.register(flow("a"))
        world.journal.available = False
        with pytest.raises(UnavailableError) as refused:
            await world.start("flow")
        assert refused.value.reason == Reason.JOURNAL_UNAVAILABLE
        world.journal.available = True
        await asyncio.sleep(60)
        assert await world.engine.list(CALLER) == []
        assert (await world.engine.counts())["admission_running"] == 0


@simulated
async def test_a_cancel_that_cannot_be_read_yet_is_read_later() -> None:
    async with World().open() as world:
        world.runner.scripts["a"] = for_ever
        execution = await world.start(flow("a"))
        await asyncio.sleep(1)
        await world.engine.cancel(CALLER, execution, "enough")
        world.journal.available = False
        await asyncio.sleep(100)
        world.journal.available = True
        events = await world.watched(execution)
        assert kinds(events)[-1] == "cancelled"
        check_history(events)


@pytest.mark.parametrize("outages", [0, 1, 3])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_append_whose_answer_is_lost_is_neither_lost_nor_doubled_nor_unseen(lost: int, outages: int) -> None:
    @simulated
    async def scenario() -> None:
        async with World().open() as world:
            world.runner.scripts = {name: sleeps(10) for name in "ab"}
            execution = await world.start(flow("a", "b"))
            watching = asyncio.ensure_future(world.watched(execution))
            await asyncio.sleep(5)
            world.journal.lost_answers, world.journal.outages = lost, outages
            events = await watching
            check_history(events)
            assert isinstance(events[-1].body, Completed)
            assert await world.events(execution) == events
            assert [len(world.runner.attempts(name)) for name in "ab"] == [1, 1]

    scenario()


@simulated
async def test_a_refusal_that_nobody_waits_for_any_more_is_no_error_of_the_server() -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    async with World().open() as world:
        world.workflows.register(flow("a"))
        world.journal.commit_delay_s = 5.0
        call = asyncio.ensure_future(world.start("flow"))
        await asyncio.sleep(1)
        call.cancel()
        world.journal.lost_answers = 1
        await asyncio.sleep(10)
        del call
        gc.collect()  # asyncio complains of what nobody looked at when it is gone
    assert complaints == []


@simulated
async def test_an_execution_whose_creation_went_unanswered_is_driven_and_its_key_finds_it() -> None:
    async with World().open() as world:
        world.workflows.register(flow("a", "b"))
        world.journal.lost_answers = 1
        request = ExecutionRequest(workflow="flow", idempotency_key="k")
        found = await world.engine.start(CALLER, request)
        assert found.attached
        again = await world.engine.start(CALLER, request)
        assert again.summary.execution == found.summary.execution
        events = await world.watched(again.summary.execution)
        check_history(events)
        assert isinstance(events[-1].body, Completed)
        world.journal.lost_answers = 1
        with pytest.raises(UnavailableError):
            await world.start("flow")
        (unheard_of, _) = await world.engine.list(CALLER)
        await world.watched(unheard_of.summary.execution)
        await asyncio.sleep(1)
        assert (await world.engine.counts())["admission_running"] == 0


@simulated
async def test_a_server_that_lost_an_execution_stops_without_writing() -> None:
    ended: list[str] = []

    async def script(call: StepCall, events: StepEvents) -> object:
        try:
            return await for_ever(call, events)
        finally:
            ended.append(call.step.name)

    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(10), "b": script}
        execution = await world.start(flow("a", "b", connections=["a>b:error"]))
        before = await world.stored(execution)
        await asyncio.sleep(5)
        world.journal.stale = True
        await asyncio.sleep(10)
        assert await world.stored(execution) == before
        assert (await world.engine.counts())["executions_driven"] == 0
        assert (await world.engine.counts())["admission_running"] == 0


@simulated
async def test_attempts_of_a_lost_execution_are_cancelled() -> None:
    ended: list[float] = []

    async def script(call: StepCall, events: StepEvents) -> object:
        try:
            return await for_ever(call, events)
        finally:
            ended.append(asyncio.get_running_loop().time())

    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(10), "b": script}
        await world.start(flow("a", "b", "c", connections=["a>c"]))
        world.journal.stale = True
        await asyncio.sleep(20)
        assert ended == [10]


@simulated
async def test_an_execution_whose_journal_is_damaged_is_left_alone_and_the_others_go_on() -> None:
    first = World()
    async with first.open():
        first.runner.scripts["a"] = for_ever
        damaged = await first.start(flow("a"))
        sound = await first.start("flow")
        await asyncio.sleep(1)
        whole = (await first.stored(damaged))[1].data
    first.journal.damage(damaged, 2, b"\xff\xff")
    second = first.restarted()
    second.runner.scripts = {}
    async with second.open():
        events = await second.watched(sound)
        assert isinstance(events[-1].body, Completed)
        with pytest.raises(UnavailableError, match="cannot be read"):
            await second.engine.get(CALLER, damaged)
        await asyncio.sleep(60)
        assert (await second.engine.counts())["admission_running"] == 0
        second.journal.damage(damaged, 2, whole)
        await asyncio.sleep(60)
        assert (await second.engine.get(CALLER, damaged)).summary.state is ExecutionState.COMPLETED


@simulated
async def test_many_executions_that_cannot_be_recovered_do_not_keep_the_server_busy() -> None:
    first = World()
    async with first.open():
        first.runner.scripts["a"] = for_ever
        executions = [await first.start(flow("a")) for _ in range(150)]
        await asyncio.sleep(1)
    for execution in executions:
        first.journal.damage(execution, 1, b"\xff\xff")
    second = first.restarted()
    claims = 0
    claim = second.journal.claim

    async def counted(*args, **kwargs):
        nonlocal claims
        claims += 1
        return await claim(*args, **kwargs)

    second.journal.claim = counted  # type: ignore[method-assign]  # counts what it passes on
    async with second.open():
        await asyncio.sleep(21)
    assert claims <= 2 * 5


@simulated
async def test_a_defect_in_one_turn_is_recovered_from_and_the_step_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(1), "b": sleeps(1)}
        encode = world.codec.encode
        broken = iter([True])

        def encode_or_break(execution: str, event: object) -> bytes:
            if getattr(event, "step", "") == "b" and next(broken, False):
                raise TypeError("a defect")
            return encode(execution, event)  # type: ignore[arg-type]  # it is an event

        monkeypatch.setattr(world.codec, "encode", encode_or_break)
        execution = await world.start(flow("a", "b"))
        events = await world.watched(execution)
        check_history(events)
        assert isinstance(events[-1].body, Completed)
        assert world.runner.attempts("a") == [1, 2]
        assert [event.body.kind for event in events].count(EventKind.EXECUTION_RECOVERED) == 1


# Looser durability


@pytest.mark.parametrize("durability", [Durability.EVERY_N_STEPS, Durability.STAGE_BOUNDARIES])
def test_deferred_events_are_flushed_in_order_within_a_second(durability: Durability) -> None:
    @simulated
    async def scenario() -> None:
        async with World().open() as world:
            names = ["a", "b", "c"]
            world.runner.scripts = {"a": sleeps(0.1), "b": sleeps(0.1), "c": sleeps(60)}
            connections = ["a>b", "a>c"] if durability is Durability.STAGE_BOUNDARIES else []
            definition = flow(*names, connections=connections, durability=durability, durability_steps=9)
            execution = await world.start(definition)
            await asyncio.sleep(0.25)
            deferred = len(await world.stored(execution))
            await asyncio.sleep(1)
            flushed = len(await world.stored(execution))
            assert flushed > deferred
            events = await world.watched(execution)
            check_history(events)
            assert isinstance(events[-1].body, Completed)

    scenario()


@simulated
async def test_a_retry_an_emission_and_a_checkpoint_flush_what_was_deferred() -> None:
    async def emits(call: StepCall, events: StepEvents) -> None:
        if call.step.name == "emits":
            await events.emit("t", Payload("1"))
        else:
            await events.checkpoint(Payload("1"))
        await asyncio.sleep(0.01)

    definition = flow("a", "emits", "b", "saves", durability=Durability.EVERY_N_STEPS, durability_steps=99)
    retried = work("fails", retry=RetryPolicy(max_attempts=2, initial_interval_s=0.1, jitter=0))
    definition = replace(definition, steps=(*definition.steps, work("c"), retried))
    async with World().open() as world:
        world.runner.scripts = {"emits": emits, "saves": emits, "fails": fails(ValueError, times=1)}
        execution = await world.start(definition)
        events = await world.watched(execution)
        check_history(events)
        last_of_each = [batch[-1].kind for batch in world.journal.appended]
        assert last_of_each == [
            EventKind.STEP_EMITTED,
            EventKind.STEP_CHECKPOINTED,
            EventKind.STEP_RETRYING,
            EventKind.EXECUTION_COMPLETED,
        ]
