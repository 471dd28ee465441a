"""What watchers of a server see, and when."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from simulation.virtual_time import simulated
from simulation.world import CALLER, STRANGER, World, check_history, flow, for_ever, kinds, sleeps
from torana_server.core.errors import EventsExpiredError, InvalidRequestError, Reason, StateError
from torana_server.core.limits import KIB
from torana_server.core.values import encode
from torana_server.execution import EVERYTHING, Event, EventFilter, EventKind, ExecutionRequest
from torana_server.execution.events import Completed
from torana_server.execution.feed import TAIL_BYTES_MAX
from torana_server.steps import StepCall, StepEvents
from torana_server.workflow import Durability


async def chatty(call: StepCall, events: StepEvents) -> None:
    for number in range(20):
        await events.emit("t", encode({"number": number}))
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("durability", list(Durability))
def test_nobody_sees_an_event_before_it_is_durable(durability: Durability) -> None:
    @simulated
    async def scenario() -> None:
        async with World().open() as world:
            world.runner.scripts = {"a": chatty, "c": chatty}
            world.journal.commit_delay_s = 0.4
            execution = await world.start(flow("a", "b", "c", durability=durability, durability_steps=5))

            async def suspicious() -> list[Event]:
                watch = await world.engine.watch(CALLER, execution)
                seen: list[Event] = []
                while not watch.ended:
                    batch = await watch.next(10)
                    assert batch is not None
                    assert batch.through_sequence <= world.journal.through[execution]
                    view = await world.engine.get(CALLER, execution)
                    assert view.summary.latest_sequence <= world.journal.through[execution]
                    seen += [world.codec.decode(event.data) for event in batch.events]
                watch.close()
                return seen

            events, again = await asyncio.gather(suspicious(), suspicious())
            check_history(events)
            assert events == again == await world.events(execution)

    scenario()


@simulated
async def test_watchers_that_come_back_at_any_cursor_see_the_same_events() -> None:
    async with World().open() as world:
        world.runner.scripts = {"b": chatty}
        execution = await world.start(flow("a", "b", "c"))

        async def restless(patience: int) -> list[Event]:
            seen: list[Event] = []
            while not (seen and isinstance(seen[-1].body, Completed)):
                watch = await world.engine.watch(CALLER, execution, len(seen))
                for _ in range(patience):
                    batch = None if watch.ended else await watch.next(0.7)
                    if batch is not None:
                        assert batch.after_sequence == len(seen)
                        seen += [world.codec.decode(event.data) for event in batch.events]
                watch.close()
            return seen

        histories = await asyncio.gather(*(restless(patience) for patience in (1, 2, 3, 50)))
        expected = await world.events(execution)
        check_history(expected)
        assert all(history == expected for history in histories)


@simulated
async def test_a_filtered_stream_has_all_that_was_asked_for_and_the_end() -> None:
    async with World().open() as world:
        world.runner.scripts = {"b": chatty}
        execution = await world.start(flow("a", "b", "c"))
        asked = EventFilter(kinds=frozenset({EventKind.STEP_COMPLETED}), steps=frozenset({"a", "b"}))
        assert kinds(await world.watched(execution, where=asked)) == [
            "step_completed a",
            "step_completed b",
            "completed",
        ]


@simulated
async def test_a_watcher_that_sleeps_through_a_flood_costs_bounded_memory_and_misses_nothing() -> None:
    async def flood(call: StepCall, events: StepEvents) -> None:
        for number in range(3_000):
            await events.emit("t", encode("x" * KIB + str(number)))

    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(1), "b": flood}
        execution = await world.start(flow("a", "b"))
        slow = await world.engine.watch(CALLER, execution)
        await asyncio.sleep(600)
        assert (await world.engine.counts())["feed_tail_bytes"] <= TAIL_BYTES_MAX
        seen = 0
        while not slow.ended:
            batch = await slow.next(10)
            assert batch is not None
            assert [event.sequence for event in batch.events] == list(range(seen + 1, batch.through_sequence + 1))
            seen = batch.through_sequence
        slow.close()
        assert seen == len(await world.stored(execution))


@simulated
async def test_a_finished_execution_can_be_watched_again_and_again() -> None:
    async with World().open() as world:
        execution = await world.start(flow("a"))
        first = await world.watched(execution)
        assert await world.watched(execution) == first
        assert await world.watched(execution, after=3) == first[3:]
        watch = await world.engine.watch(CALLER, execution, len(first))
        assert watch.ended
        watch.close()


@simulated
async def test_a_cursor_beyond_the_last_event_is_out_of_range() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": for_ever}
        execution = await world.start(flow("a"))
        with pytest.raises(StateError) as refused:
            await world.engine.watch(CALLER, execution, 4)
        assert refused.value.reason == Reason.SEQUENCE_OUT_OF_RANGE
        assert refused.value.metadata == {"latestSequence": "3"}


@simulated
async def test_a_cursor_ahead_of_a_server_that_has_not_heard_of_its_own_commit_is_good() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(10), "b": for_ever}
        execution = await world.start(flow("a", "b"))
        await asyncio.sleep(9)
        appended = asyncio.Event()
        append = world.journal.append

        async def slow_to_say(*args, **kwargs) -> None:
            await append(*args, **kwargs)
            appended.set()
            await asyncio.sleep(5)

        world.journal.append = slow_to_say  # type: ignore[method-assign]  # it happens, and the answer takes its time
        await appended.wait()
        watch = await world.engine.watch(CALLER, execution, 5)
        assert await watch.next(1) is None
        watch.close()


@simulated
async def test_events_removed_by_retention_are_said_to_be() -> None:
    async with World().open() as world:
        execution = await world.start(flow("a"))
        events = await world.watched(execution)
        record = world.journal._records[execution]
        record.summary = replace(record.summary, oldest_sequence=len(events) + 1)
        for ask in (world.engine.watch(CALLER, execution), world.engine.watch(CALLER, execution, 2)):
            with pytest.raises(EventsExpiredError) as refused:
                await ask
            assert refused.value.metadata == {"execution": execution, "state": "COMPLETED"}
        assert (await world.engine.get(CALLER, execution)).state is None


@simulated
async def test_a_watch_over_all_sees_every_execution_of_the_tenant_in_its_order() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(1), "b": sleeps(2)}
        world.workflows.register(flow("a", "b"))
        watch = await world.engine.watch_all(CALLER, None, EVERYTHING, frozenset())
        executions = [await world.start("flow") for _ in range(3)]
        await world.engine.start(STRANGER, ExecutionRequest(workflow="flow"))
        seen: dict[str, list[int]] = {execution: [] for execution in executions}
        while found := await watch.next(10):
            for one in found:
                seen[one.execution].append(one.event.sequence)
        assert seen == {execution: list(range(1, 8)) for execution in executions}
        again = await world.engine.watch_all(CALLER, 0, EVERYTHING, frozenset({EventKind.EXECUTION_COMPLETED}))
        assert {one.execution for one in await again.next(1)} == set(executions)
        with pytest.raises(InvalidRequestError) as refused:
            await world.engine.watch_all(CALLER, 10**9, EVERYTHING, frozenset())
        assert refused.value.reason == Reason.INVALID_PAGE_TOKEN
