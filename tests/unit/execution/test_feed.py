"""The feed between a journal and watchers, without executors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.journals import UnreliableJournal
from simulation.virtual_time import simulate, simulated
from torana_server.adapters.memory.journal import MemoryJournal
from torana_server.core.clock import Micros
from torana_server.core.limits import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, KIB
from torana_server.execution.events import TERMINAL_KINDS, EventKind
from torana_server.execution.feed import (
    ALL_EVENTS,
    LOOK_AGAIN_S,
    TAIL_BYTES_MAX,
    TAIL_BYTES_UNWATCHED_MAX,
    Batch,
    EventFilter,
    Feed,
    Watch,
)
from torana_server.execution.filters import EVERYTHING
from torana_server.execution.ports import Commit, ExecutionState, StoredEvent, Summary, Transition, Watched

LOG = EventKind.STEP_LOG
DONE = EventKind.EXECUTION_COMPLETED


class Listener:
    """The engine's part in it: commits go to the feed."""

    def __init__(self) -> None:
        self.feed: Feed | None = None

    def committed(self, commits: Sequence[Commit]) -> None:
        assert self.feed is not None
        self.feed.committed(commits)

    def requested(self, execution: str) -> None:
        raise AssertionError("no test here asks for anything")

    def failed(self, error: Exception) -> None:
        raise error

    def claimable(self) -> None:
        raise AssertionError("no other server shares this journal")

    def disowned(self) -> None:
        raise AssertionError("no other server shares this journal")

    def watched(self) -> Watched:
        return Watched()


class Stage:
    """One execution, `e`, of `tenant`, whose events a test writes."""

    def __init__(self) -> None:
        self.journal = UnreliableJournal()
        self.latest = 0
        self.fence = 0
        self.ended = False
        self.closed = 0

    async def open(self) -> Stage:
        listener = Listener()
        self.feed = listener.feed = Feed(self.journal)
        await self.journal.open(listener)
        return self

    async def write(self, count: int = 1, *, kind: EventKind = LOG, size: int = 10, step: str = "a") -> None:
        events = [StoredEvent(self.latest + n, kind, step, bytes(size)) for n in range(1, count + 1)]
        ended = Transition(ExecutionState.COMPLETED, end_time=Micros(9)) if kind in TERMINAL_KINDS else None
        if not self.latest:
            summary = Summary(
                execution="e",
                tenant="acme",
                workflow="flow",
                revision="r",
                state=ExecutionState.RUNNING,
                create_time=Micros(1),
            )
            self.fence = (await self.journal.create(summary, events)).fence
        else:
            await self.journal.append("e", self.latest, events, self.fence, ended)
        self.latest += count
        self.ended = ended is not None

    async def end(self) -> None:
        await self.write(kind=DONE, step="")

    def watch(self, after: int = 0, where: EventFilter = ALL_EVENTS) -> Watch:
        def closed() -> None:
            self.closed += 1

        return self.feed.watch("e", after, where, through=self.latest, ended=self.ended, on_close=closed)


def sequences(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [event.sequence for event in batch.events]


async def to_the_end(watch: Watch) -> list[int]:
    seen: list[int] = []
    while not watch.ended:
        seen += sequences(await watch.next(3_600))
    watch.close()
    return seen


@simulated
async def test_a_watch_from_n_begins_at_n_plus_one() -> None:
    stage = await Stage().open()
    await stage.write(5)
    batch = await stage.watch(3).next(1)
    assert sequences(batch) == [4, 5]
    assert batch is not None
    assert (batch.after_sequence, batch.through_sequence, batch.terminal) == (3, 5, False)


@simulated
async def test_what_was_committed_together_arrives_together_in_batches_of_bounded_size() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch(1)
    await stage.write(BATCH_EVENTS_MAX + 3)
    assert len(sequences(await watch.next(1))) == BATCH_EVENTS_MAX
    assert len(sequences(await watch.next(1))) == 3
    await stage.write(5, size=BATCH_BYTES_MAX // 2 - 1)
    assert [len(sequences(await watch.next(1))) for _ in range(3)] == [2, 2, 1]


@simulated
async def test_nothing_comes_for_as_long_as_nothing_happens() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch(1)
    assert await watch.next(15) is None
    assert asyncio.get_running_loop().time() == 15


@simulated
async def test_the_first_event_after_a_silence_is_not_held_back() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch(1)
    waiting = asyncio.ensure_future(watch.next(100))
    await asyncio.sleep(50)
    await stage.write()
    assert sequences(await waiting) == [2]
    assert asyncio.get_running_loop().time() == 50


@simulated
async def test_the_last_event_is_not_held_back_and_ends_the_watch() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch()
    assert sequences(await watch.next(1)) == [1]
    await stage.end()
    batch = await watch.next(1)
    assert batch is not None
    assert batch.terminal
    assert watch.ended
    assert asyncio.get_running_loop().time() == 0


@simulated
async def test_filters_drop_events_and_no_numbers_and_the_terminal_event_passes() -> None:
    stage = await Stage().open()
    await stage.write(2, step="a")
    await stage.write(2, step="b")
    watch = stage.watch(where=EventFilter(steps=frozenset({"b"}), kinds=frozenset({LOG})))
    batch = await watch.next(1)
    assert batch is not None
    assert (sequences(batch), batch.after_sequence, batch.through_sequence) == ([3, 4], 0, 4)
    await stage.write(2, step="a")
    assert await watch.next(1) is None
    assert (watch.through_sequence, watch.position) == (4, 6)
    assert watch.mark() == 6
    await stage.end()
    batch = await watch.next(1)
    assert batch is not None
    assert (sequences(batch), batch.after_sequence, batch.through_sequence) == ([7], 6, 7)


@simulated
async def test_who_waits_for_the_end_alone_is_not_woken_by_each_commit_and_hears_the_end_at_once() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch(where=EventFilter(TERMINAL_KINDS))
    waiting = asyncio.create_task(watch.next(60))
    await asyncio.sleep(0.001)
    assert watch.position == 1
    for _ in range(3):
        await stage.write()
        await asyncio.sleep(0.001)
    assert watch.position == 1, "three commits within the pause"
    await stage.end()
    assert sequences(await waiting) == [5]
    assert asyncio.get_running_loop().time() == 0.004


@simulated
async def test_the_first_event_that_passes_a_filter_is_not_held_back_by_those_that_did_not() -> None:
    stage = await Stage().open()
    await stage.write(step="a")
    watch = stage.watch(where=EventFilter(steps=frozenset({"b"})))
    waiting = asyncio.create_task(watch.next(60))
    await asyncio.sleep(0.001)
    await stage.write(step="b")
    assert sequences(await waiting) == [2]
    assert asyncio.get_running_loop().time() == 0.001


@simulated
async def test_a_slow_watcher_costs_bounded_memory_and_misses_nothing() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch()
    for _ in range(200):
        await stage.write(10, size=KIB)
        assert stage.feed.tail_bytes() <= TAIL_BYTES_MAX
    await stage.end()
    assert await to_the_end(watch) == list(range(1, 2_003))


@simulated
async def test_an_execution_without_watchers_keeps_little_for_the_next_one() -> None:
    stage = await Stage().open()
    for _ in range(100):
        await stage.write(size=KIB)
    assert 0 < stage.feed.tail_bytes() <= TAIL_BYTES_UNWATCHED_MAX
    await stage.end()
    assert stage.feed.tail_bytes() == 0
    assert await to_the_end(stage.watch()) == list(range(1, 102))


@simulated
async def test_who_has_the_last_event_already_has_seen_the_end() -> None:
    stage = await Stage().open()
    await stage.write()
    await stage.end()
    assert stage.watch(2).ended
    assert not stage.watch(1).ended


@simulated
async def test_an_event_that_comes_between_the_callers_look_and_the_watch_is_not_missed() -> None:
    stage = await Stage().open()
    await stage.write()
    await stage.write()
    stage.feed.forget("e")
    watch = stage.feed.watch("e", 1, ALL_EVENTS, through=1, ended=False, on_close=lambda: None)
    assert sequences(await watch.next(1)) == [2]


class SlowToRead(UnreliableJournal):
    """What a read finds is as old as its beginning."""

    async def read(self, execution: str, after_sequence: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        found = await super().read(execution, after_sequence, limit=limit, limit_bytes=limit_bytes)
        await asyncio.sleep(1)
        return found

    async def read_all(self, *args, **kwargs):
        found = await super().read_all(*args, **kwargs)
        await asyncio.sleep(1)
        return found


@simulated
async def test_an_event_that_comes_during_a_look_at_the_journal_is_not_slept_over() -> None:
    stage = Stage()
    stage.journal = SlowToRead()
    await stage.open()
    await stage.write()
    stage.feed.forget("e")
    watch = stage.watch(1)
    every = stage.feed.watch_all("acme", 1, EVERYTHING, frozenset())
    both = asyncio.gather(watch.next(100), every.next(100))
    await asyncio.sleep(0.5)
    await stage.write()
    await both
    assert asyncio.get_running_loop().time() <= 2


@simulated
async def test_hints_of_other_processes_may_be_merged_or_lost() -> None:
    stage = await Stage().open()
    await stage.write()
    stage.feed.forget("e")
    watch = stage.watch(1)
    stage.journal.muted = True
    waiting = asyncio.ensure_future(watch.next(15))
    await asyncio.sleep(1)
    await stage.write(2)
    assert await waiting is None, "the hint was lost"
    assert sequences(await watch.next(15)) == [2, 3]
    waiting = asyncio.ensure_future(watch.next(15))
    await asyncio.sleep(1)
    await stage.write(2)
    stage.feed.committed([Commit("e", "acme", stage.latest, 5)])
    assert sequences(await waiting) == [4, 5]


@simulated
async def test_who_waits_without_a_limit_finds_what_another_process_wrote_though_the_hint_was_lost() -> None:
    stage = await Stage().open()
    await stage.write()
    stage.feed.forget("e")
    watch = stage.watch(1)
    stage.journal.muted = True
    waiting = asyncio.ensure_future(watch.next(None))
    await asyncio.sleep(1)
    await stage.write(2)
    assert sequences(await waiting) == [2, 3]
    assert asyncio.get_running_loop().time() <= LOOK_AGAIN_S


@simulated
async def test_the_same_commit_may_be_heard_of_twice() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch()
    await stage.write()
    stage.feed.found("e", [StoredEvent(2, LOG, "a", bytes(10))])
    await stage.end()
    stage.feed.found("e", [StoredEvent(3, DONE, "", bytes(10))])
    assert await to_the_end(watch) == [1, 2, 3]
    assert stage.feed.tail_bytes() == 0


@simulated
async def test_a_watch_that_is_closed_twice_leaves_once() -> None:
    stage = await Stage().open()
    await stage.write()
    first, second = stage.watch(), stage.watch()
    first.close()
    first.close()
    assert (stage.closed, stage.feed.watchers("e")) == (1, 1)
    second.close()
    assert stage.feed.watchers("e") == 0


@simulated
async def test_nothing_is_kept_of_an_execution_that_is_neither_driven_nor_watched() -> None:
    stage = await Stage().open()
    await stage.write()
    watch = stage.watch()
    stage.feed.forget("e")
    assert stage.feed.tail_bytes() > 0
    watch.close()
    assert stage.feed.tail_bytes() == 0


@simulated
async def test_closing_the_feed_and_stopping_a_watch_end_the_waiting_at_once() -> None:
    stage = await Stage().open()
    await stage.write()
    first, second = stage.watch(1), stage.watch(1)
    every = stage.feed.watch_all("acme", 1, EVERYTHING, frozenset())
    waiting = asyncio.gather(first.next(100), second.next(100), every.next(100))
    await asyncio.sleep(1)
    first.stop()
    await asyncio.sleep(1)
    assert (first.draining, second.draining) == (True, False)
    stage.feed.close()
    assert list(await waiting) == [None, None, []]
    assert asyncio.get_running_loop().time() == 2


@settings(max_examples=60)
@given(st.data())
def test_every_watcher_sees_the_same_gapless_order_however_often_it_comes_back(data: st.DataObject) -> None:
    async def watcher(stage: Stage, pauses: list[int]) -> list[int]:
        seen: list[int] = []
        cursor, ended = 0, False
        while not ended:
            watch = stage.watch(cursor)
            for _ in range(data.draw(st.integers(1, 4))):
                if pauses:
                    await asyncio.sleep(pauses.pop())
                batch = None if watch.ended else await watch.next(5)
                if batch is not None:
                    assert batch.after_sequence == cursor
                    seen += sequences(batch)
                    cursor = batch.through_sequence
            ended = watch.ended
            watch.close()
        return seen

    async def scenario() -> None:
        stage = await Stage().open()
        await stage.write()
        pauses = st.lists(st.integers(0, 5), max_size=8)
        watchers = [asyncio.ensure_future(watcher(stage, data.draw(pauses))) for _ in range(3)]
        for size in data.draw(st.lists(st.sampled_from([10, 20 * KIB, 200 * KIB]), max_size=10)):
            await asyncio.sleep(data.draw(st.sampled_from([0, 0.001, 1])))
            await stage.write(data.draw(st.sampled_from([1, 3, 70])), size=size)
        await stage.end()
        for seen in await asyncio.gather(*watchers):
            assert seen == list(range(1, stage.latest + 1))
        assert stage.feed.tail_bytes() == 0

    simulate(scenario())


async def test_a_watch_that_holds_back_ends_when_the_feed_closes() -> None:
    feed = Feed(MemoryJournal())
    watch = feed.watch("e", 0, ALL_EVENTS, through=0, ended=False, on_close=lambda: None)
    event = StoredEvent(1, EventKind.EXECUTION_ACCEPTED, "", b"x")
    feed.committed([Commit("e", "t", 1, 1, (event,))])
    watch._unsure = False  # what the journal would say is not what this is about
    assert await watch.next(60) is not None
    waiting = asyncio.create_task(watch.next(60))
    await asyncio.sleep(0)
    feed.close()
    watch.stop()
    assert await asyncio.wait_for(waiting, 1) is None
