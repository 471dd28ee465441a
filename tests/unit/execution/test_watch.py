"""A watch misses nothing, however it is attached, and knows when no more will come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from torana_server.execution import EventFilter, EventKind, StoredEvent, Watch
from torana_server.execution.feed import Feed
from torana_server.execution.ports import Commit

LAST = StoredEvent(3, EventKind.EXECUTION_COMPLETED, "", b"last")
EVENTS = [
    StoredEvent(1, EventKind.EXECUTION_ACCEPTED, "", b"first"),
    StoredEvent(2, EventKind.STEP_STARTED, "a", b"second"),
    LAST,
]


@dataclass(slots=True)
class Reads:
    """The part of a journal that a feed reads from."""

    events: list[StoredEvent] = field(default_factory=list)
    count: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, execution: str, after: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        self.count += 1
        self.begun.set()
        return self.events[after : after + limit]


def commit(*events: StoredEvent) -> list[Commit]:
    return [Commit("x", "local", events[-1].sequence, events[-1].sequence, events)]


def attach(feed: Feed, after: int, *, through: int, ended: bool = False, where: EventFilter | None = None) -> Watch:
    return feed.watch("x", after, where or EventFilter(), through=through, ended=ended, on_close=lambda: None)


async def test_a_last_event_that_passed_between_look_and_attach_is_not_missed() -> None:
    journal = Reads(EVENTS)
    feed = Feed(journal)  # type: ignore[arg-type]  # a feed reads by `read` alone
    feed.committed(commit(LAST))
    watch = attach(feed, 2, through=2)
    batch = await watch.next(60)
    assert batch is not None
    assert (batch.events, batch.terminal, watch.ended) == ((LAST,), True, True)


async def test_a_watch_that_had_to_make_sure_does_so_once() -> None:
    journal = Reads(EVENTS[:2])
    feed = Feed(journal)  # type: ignore[arg-type]  # as above
    watch = attach(feed, 2, through=2)
    waiting = asyncio.create_task(watch.next(60))
    await journal.begun.wait()
    feed.committed(commit(LAST))
    batch = await waiting
    assert batch is not None
    assert batch.events == (LAST,)
    assert journal.count == 1


@pytest.mark.parametrize("after", [3, 2])
async def test_a_watch_from_behind_the_last_event_has_ended(after) -> None:
    feed = Feed(Reads(EVENTS))  # type: ignore[arg-type]  # as above
    assert attach(feed, after, through=3, ended=True).ended is (after == 3)


async def test_a_stopped_watch_goes_on_without_a_batch() -> None:
    feed = Feed(Reads(EVENTS[:2]))  # type: ignore[arg-type]  # as above
    watch = attach(feed, 2, through=2)
    waiting = asyncio.create_task(watch.next(60))
    await asyncio.sleep(0)
    watch.stop()
    assert await waiting is None
    assert watch.draining
    assert not feed.closed


async def test_the_cursor_moves_past_what_the_filter_left_out_once_that_was_told() -> None:
    journal = Reads(EVENTS[:2])
    feed = Feed(journal)  # type: ignore[arg-type]  # as above
    watch = attach(feed, 0, through=2, where=EventFilter(kinds=frozenset({EventKind.STEP_FAILED})))
    assert await watch.next(0) is None
    assert watch.mark() == 2
    feed.committed(commit(LAST))
    batch = await watch.next(60)
    assert batch is not None
    assert (batch.after_sequence, batch.through_sequence) == (2, 3)
