"""A journal in memory that misbehaves as stores do, when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from torana_server.adapters.memory.journal import MemoryJournal
from torana_server.core.errors import StaleAppendError, UnavailableError
from torana_server.execution.ports import (
    CancelRequest,
    Commit,
    Created,
    JournalListener,
    StoredEvent,
    Summary,
    Transition,
    Watched,
)


class _Muted:
    """A listener of a journal whose answers are lost: it hears nothing of that commit either."""

    def __init__(self, listener: JournalListener, journal: UnreliableJournal) -> None:
        self._listener = listener
        self._journal = journal

    def committed(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self._journal.through[commit.execution] = commit.through_sequence
        if not self._journal.muted:
            self._listener.committed(commits)

    def requested(self, execution: str) -> None:
        self._listener.requested(execution)

    def failed(self, error: Exception) -> None:
        self._listener.failed(error)

    def claimable(self) -> None:
        self._listener.claimable()

    def disowned(self) -> None:
        self._listener.disowned()

    def watched(self) -> Watched:
        return self._listener.watched()


class UnreliableJournal(MemoryJournal):
    """`outages` fails calls while it is above zero, counting down; `available` False fails all of them.

    `lost_answers` makes that many writes take place unheard of. `commit_delay_s` is the time a write takes.
    `through` is the last durable sequence of each execution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.available = True
        self.outages = 0
        self.lost_answers = 0
        self.stale = False
        self.muted = False
        self.commit_delay_s = 0.0
        self.appends = 0
        self.appended: list[list[StoredEvent]] = []
        self.through: dict[str, int] = {}

    async def open(self, listener: JournalListener) -> None:
        await super().open(_Muted(listener, self))

    async def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        created: Created = await self._unreliably(lambda: MemoryJournal.create(self, summary, events))
        return created

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        if self.stale:
            raise StaleAppendError("another server owns it")
        self.appends += 1
        append = MemoryJournal.append
        await self._unreliably(lambda: append(self, execution, expected_sequence, events, fence, transition))
        self.appended.append(list(events))

    async def _unreliably(self, write: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        self._check()
        if self.commit_delay_s:
            await asyncio.sleep(self.commit_delay_s)
        if not self.lost_answers:
            return await write()
        self.lost_answers -= 1
        self.muted = True
        try:
            await write()
        finally:
            self.muted = False
        raise UnavailableError("the connection was cut during the commit")

    async def read(self, execution: str, after_sequence: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        self._check()
        return await super().read(execution, after_sequence, limit=limit, limit_bytes=limit_bytes)

    async def get(self, execution: str) -> Summary | None:
        self._check()
        return await super().get(execution)

    async def request(self, execution: str, command: CancelRequest) -> None:
        self._check()
        await super().request(execution, command)

    async def requests(self, execution: str) -> list[CancelRequest]:
        self._check()
        return await super().requests(execution)

    async def release(self, execution: str, fence: int) -> None:
        self._check()
        await super().release(execution, fence)

    def lose_owner(self) -> None:
        """The process that owned executions has ended, and its leases have run out."""
        self._unowned |= self._owned
        self._owned.clear()

    def damage(self, execution: str, sequence: int, data: bytes) -> None:
        """Puts other bytes in the place of an event."""
        events = self._records[execution].events
        whole = events[sequence - 1]
        events[sequence - 1] = StoredEvent(sequence, whole.kind, whole.step, data)

    def _check(self) -> None:
        if self.outages:
            self.outages -= 1
            raise UnavailableError("the store does not answer")
        if not self.available:
            raise UnavailableError("the store does not answer")
