"""From the journal to the watchers.

The journal tells the feed what it made durable, and nothing else does, so no watcher can see what could still be
lost (P1). The feed keeps a short tail of recent events per execution that has watchers or is being driven. A watcher
is a cursor: it takes what follows its cursor from the tail, or from the journal when the tail no longer reaches that
far back. A slow watcher therefore costs no memory beyond its cursor, and misses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torana_server.core.clock import idle
from torana_server.core.limits import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, KIB
from torana_server.execution.events import TERMINAL_KINDS, EventKind
from torana_server.execution.filters import Filter
from torana_server.execution.ports import Commit, Journal, PositionedEvent, StoredEvent, Watched

COALESCE_S = 0.005
COALESCE_S_PER_WATCH = 0.001
COALESCE_S_MAX = 0.05
"""After a batch, what comes within a short while goes into one more, because messages cost far more than events: 5 ms,
and 1 ms more for each watch that is open, up to 50 ms. The first batch, a full one and the last are never held back."""
LOOK_AGAIN_S = 15.0
"""How often who waits without a limit asks the journal for what another process wrote: its hints may be lost."""
TAIL_BYTES_MAX = 512 * KIB
"""Kept per execution while somebody watches it."""
TAIL_BYTES_UNWATCHED_MAX = 16 * KIB
"""Kept per running execution that nobody watches, for the watcher that is about to attach."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events of a stream are wanted. Empty means all. Terminal events pass every filter."""

    kinds: frozenset[EventKind] = frozenset()
    steps: frozenset[str] = frozenset()

    def wants(self, event: StoredEvent) -> bool:
        if event.kind in TERMINAL_KINDS:
            return True
        if self.kinds and event.kind not in self.kinds:
            return False
        return not (self.steps and event.step and event.step not in self.steps)

    @property
    def everything(self) -> bool:
        return not self.kinds and not self.steps

    @property
    def only_ends(self) -> bool:
        """Whether nothing but the last event of an execution passes."""
        return bool(self.kinds) and self.kinds <= TERMINAL_KINDS


ALL_EVENTS = EventFilter()


class Batch(NamedTuple):
    """The events in (after_sequence, through_sequence] that pass the filter. `terminal`: the last event is in it."""

    events: tuple[StoredEvent, ...]
    after_sequence: int
    through_sequence: int
    terminal: bool


class Wakeup:
    """Wakes everybody who waits, at once. Waiting costs one future."""

    __slots__ = ("_waiters", "count")

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []
        self.count = 0
        """How often it woke. Remembered before a look at the journal, it tells whether something came since."""

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiters)

    def wake(self) -> None:
        self.count += 1
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, count: int, timeout_s: float) -> None:
        """Returns when woken since `count`, or after `timeout_s`, whichever is first."""
        if self.count != count:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(timeout_s, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


@dataclass(slots=True)
class Tail:
    """The latest events of one execution, without gaps, ending at `through`."""

    through: int
    events: deque[StoredEvent] = field(default_factory=deque)
    size_bytes: int = 0
    watchers: int = 0
    driven: bool = False
    """Whether this process writes the execution. If not, what the tail hears are hints, and some may be lost."""
    ended: bool = False
    wakeup: Wakeup = field(default_factory=Wakeup)
    urgent: Wakeup = field(default_factory=Wakeup)
    """Wakes those who hold back, when there is something that must not be."""

    def extend(self, events: Sequence[StoredEvent], through: int) -> None:
        before = self.through
        if events and events[0].sequence == self.through + 1:
            self.events.extend(events)
            self.size_bytes += sum(len(event.data) for event in events)
        elif through > self.through:
            # Written by another process, or a hint was lost: the journal has it.
            self.events.clear()
            self.size_bytes = 0
        self.through = max(self.through, through)
        self._trim()
        self.ended = self.ended or bool(events and events[-1].kind in TERMINAL_KINDS)
        self.wakeup.wake()
        if self.ended or self.through // BATCH_EVENTS_MAX > before // BATCH_EVENTS_MAX:
            self.urgent.wake()

    def is_urgent(self, sequence: int) -> bool:
        """Whether what follows `sequence` ends the execution or fills a batch."""
        return self.ended or self.through - sequence >= BATCH_EVENTS_MAX

    def _trim(self) -> None:
        limit = TAIL_BYTES_MAX if self.watchers else TAIL_BYTES_UNWATCHED_MAX
        while self.size_bytes > limit and len(self.events) > 1:
            self.size_bytes -= len(self.events.popleft().data)

    def after(self, sequence: int) -> list[StoredEvent] | None:
        """Up to one batch of events after `sequence`; None when the tail does not reach back that far."""
        if not self.events or sequence < self.events[0].sequence - 1:
            return None
        start = sequence - self.events[0].sequence + 1
        if start == 0 and len(self.events) <= BATCH_EVENTS_MAX and self.size_bytes <= BATCH_BYTES_MAX:
            return list(self.events)
        return self._slice(start)

    def _slice(self, start: int) -> list[StoredEvent]:
        taken: list[StoredEvent] = []
        size = 0
        for index in range(start, min(start + BATCH_EVENTS_MAX, len(self.events))):
            event = self.events[index]
            size += len(event.data)
            if taken and size > BATCH_BYTES_MAX:
                break
            taken.append(event)
        return taken


class Feed:
    """Receives commits (it is the journal's listener for them) and serves watches. The same commit may come twice."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tails: dict[str, Tail] = {}
        self._any = Wakeup()
        self._open = 0
        self.closed = False

    @property
    def coalesce_s(self) -> float:
        """How long what follows a batch may be held back now."""
        return min(COALESCE_S + COALESCE_S_PER_WATCH * self._open, COALESCE_S_MAX)

    def committed(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self._extend(commit.execution, commit.events, commit.through_sequence)
        self._any.wake()

    def found(self, execution: str, events: Sequence[StoredEvent]) -> None:
        """Events of this process that are durable although the journal could not say so."""
        self._extend(execution, events, events[-1].sequence)
        self._any.wake()

    def _extend(self, execution: str, events: Sequence[StoredEvent], through: int) -> None:
        tail = self._tails.get(execution)
        if not events and (tail is None or through <= tail.through):
            return  # a hint of what nobody watches, or what is known
        if tail is None:
            tail = self._tails[execution] = Tail(events[0].sequence - 1)
        if events:
            tail.driven = True
        tail.extend(events, through)
        if events and events[-1].kind in TERMINAL_KINDS:
            # Watchers hold the tail they need; later ones read the journal.
            del self._tails[execution]

    def forget(self, execution: str) -> None:
        """Drops the tail of an execution that this server no longer drives, unless it is watched."""
        tail = self._tails.get(execution)
        if tail is not None:
            tail.driven = False
            self._drop_unused(execution, tail)

    def watched(self) -> Watched:
        """What somebody watches here that this server does not write."""
        executions = [execution for execution, tail in self._tails.items() if tail.watchers and not tail.driven]
        return Watched(executions, all=bool(self._any))

    def watchers(self, execution: str) -> int:
        """How many watches of an execution that goes on are open."""
        tail = self._tails.get(execution)
        return tail.watchers if tail else 0

    def watch(
        self,
        execution: str,
        after_sequence: int,
        where: EventFilter,
        *,
        through: int,
        ended: bool,
        on_close: Callable[[], None],
    ) -> Watch:
        """A watch from `after_sequence` on. `through` and `ended` are what the caller knows of the execution."""
        tail = self._tails.get(execution)
        # Between the caller's look and now the last event may have passed by; once the tail is there, none can.
        unsure = tail is None and not ended
        if tail is None:
            tail = Tail(through, ended=ended)
            if not ended:
                self._tails[execution] = tail
        elif not tail.events and through > tail.through:
            tail.through = through
            tail.wakeup.wake()
        tail.watchers += 1
        self._open += 1
        watch = Watch(self, self._journal, execution, tail, after_sequence, where, on_close, unsure=unsure)
        watch.ended = ended and after_sequence >= through
        return watch

    def unwatch(self, execution: str, tail: Tail) -> None:
        tail.watchers -= 1
        self._open -= 1
        self._drop_unused(execution, tail)

    def _drop_unused(self, execution: str, tail: Tail) -> None:
        if not tail.watchers and not tail.driven and self._tails.get(execution) is tail:
            del self._tails[execution]

    def watch_all(self, tenant: str, position: int, where: Filter, kinds: frozenset[EventKind]) -> WatchAll:
        return WatchAll(self, self._journal, self._any, tenant, position, where, kinds)

    def close(self) -> None:
        """Ends every watch: `next` returns None at once from now on."""
        self.closed = True
        for tail in list(self._tails.values()):
            tail.wakeup.wake()
            tail.urgent.wake()
        self._any.wake()

    def tail_bytes(self) -> int:
        return sum(tail.size_bytes for tail in self._tails.values())


class Watch:
    """One watcher of one execution. Call `next` until `ended`; `close` when done."""

    __slots__ = (
        "_closed",
        "_feed",
        "_hold_until",
        "_journal",
        "_on_close",
        "_position",
        "_stopped",
        "_tail",
        "_unsure",
        "_where",
        "ended",
        "execution",
        "through_sequence",
    )

    def __init__(
        self,
        feed: Feed,
        journal: Journal,
        execution: str,
        tail: Tail,
        after_sequence: int,
        where: EventFilter,
        on_close: Callable[[], None],
        *,
        unsure: bool,
    ) -> None:
        self._unsure = unsure
        self._closed = False
        self._stopped = False
        self._on_close = on_close
        self._feed = feed
        self._journal = journal
        self._tail = tail
        self._where = where
        self._hold_until = 0.0
        self._position = after_sequence
        self.execution = execution
        self.through_sequence = after_sequence
        """The cursor of the last batch handed out."""
        self.ended = False

    @property
    def position(self) -> int:
        """Everything up to here that passes the filter was handed out. At or ahead of `through_sequence`."""
        return self._position

    async def next(self, timeout_s: float | None) -> Batch | None:
        """The next batch; None when nothing came for `timeout_s`, or no more will come. Not after `ended`.

        With None it waits for as long as it takes.

        What soon follows a batch goes into one batch, unless it ends the execution or fills one. Who waits for the end
        alone is not woken by each commit before it.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not self.draining:
            seen = self._tail.wakeup.count
            await self._hold_back(loop)
            events = await self._events()
            if events:
                batch = self._batch(events)
                if batch is not None or self._where.only_ends:
                    self._hold_until = loop.time() + self._feed.coalesce_s
                if batch is not None:
                    return batch
            elif deadline is None:
                with idle():
                    await self._tail.wakeup.wait(seen, LOOK_AGAIN_S)
                self._unsure = not self._tail.driven  # a hint may have been lost
            elif loop.time() < deadline:
                await self._tail.wakeup.wait(seen, deadline - loop.time())
            else:
                self._unsure = not self._tail.driven
                return None
        return None

    async def _hold_back(self, loop: asyncio.AbstractEventLoop) -> None:
        hold_s = self._hold_until - loop.time()
        seen = self._tail.urgent.count
        if hold_s > 0 and not self._tail.is_urgent(self._position):
            await self._tail.urgent.wait(seen, hold_s)

    async def _events(self) -> list[StoredEvent]:
        if self._position < self._tail.through:
            events = self._tail.after(self._position)
            if events is not None:
                return events
        elif not self._unsure:
            return []
        events = await self._journal.read(
            self.execution, self._position, limit=BATCH_EVENTS_MAX, limit_bytes=BATCH_BYTES_MAX
        )
        self._unsure = False
        return events

    def _batch(self, events: list[StoredEvent]) -> Batch | None:
        self._position = events[-1].sequence
        self.ended = events[-1].kind in TERMINAL_KINDS
        if not self._where.everything:
            events = [event for event in events if self._where.wants(event)]
            if not events:
                return None
        batch = Batch(tuple(events), self.through_sequence, self._position, self.ended)
        self.through_sequence = self._position
        return batch

    def mark(self) -> int:
        """The cursor, moved past what the filter left out; the next batch begins there."""
        self.through_sequence = self._position
        return self._position

    def stop(self) -> None:
        """`next` returns None at once from now on."""
        self._stopped = True
        self._tail.wakeup.wake()
        self._tail.urgent.wake()

    @property
    def latest_sequence(self) -> int:
        return self._tail.through

    @property
    def draining(self) -> bool:
        """No more will come: the server is shutting down."""
        return self._feed.closed or self._stopped

    def close(self) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            self._feed.unwatch(self.execution, self._tail)
            self._on_close()


class WatchAll:
    """One watcher of all executions of a tenant."""

    __slots__ = ("_any", "_feed", "_journal", "_kinds", "_stopped", "_tenant", "_where", "position")

    @property
    def draining(self) -> bool:
        """No more will come: the server is shutting down."""
        return self._feed.closed or self._stopped

    def __init__(
        self,
        feed: Feed,
        journal: Journal,
        any_commit: Wakeup,
        tenant: str,
        position: int,
        where: Filter,
        kinds: frozenset[EventKind],
    ) -> None:
        self._feed = feed
        self._journal = journal
        self._any = any_commit
        self._tenant = tenant
        self._where = where
        self._kinds = kinds
        self._stopped = False
        self.position = position

    def stop(self) -> None:
        """`next` returns at once from now on."""
        self._stopped = True
        self._any.wake()

    async def next(self, timeout_s: float) -> list[PositionedEvent]:
        """The next events, in order within each execution; empty when nothing came for `timeout_s`, or no more will
        come."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self.draining:
            before, seen = self.position, self._any.count
            events, self.position = await self._journal.read_all(
                self._tenant,
                self.position,
                self._where,
                self._kinds,
                limit=BATCH_EVENTS_MAX,
                limit_bytes=BATCH_BYTES_MAX,
            )
            if events:
                return events
            if self.position > before:
                continue
            remaining = deadline - loop.time()
            if remaining <= 0:
                return []
            await self._any.wait(seen, remaining)
        return []
