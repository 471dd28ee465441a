"""What outlives a server in memory: its journal and its vault, until the test ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torana_server.adapters.memory.journal import MemoryJournal
from torana_server.adapters.memory.secrets import MemorySecretStore
from torana_server.core.errors import StaleAppendError
from torana_server.execution.ports import (
    Capabilities,
    Claim,
    Commit,
    Created,
    JournalListener,
    StoredEvent,
    Summary,
    Transition,
    Watched,
)
from torana_server.vault import Keyring, LocalKey


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """The server is lost at its `commit`-th write to the journal: `before` it is durable, or right `after`."""

    commit: int
    when: Literal["before", "after"]


class _Muted:
    """Passes on what the journal says until the server is lost."""

    def __init__(self, listener: JournalListener, journal: CrashingJournal) -> None:
        self._listener = listener
        self._journal = journal

    def committed(self, commits: Sequence[Commit]) -> None:
        if not self._journal.lost:
            self._listener.committed(commits)

    def requested(self, execution: str) -> None:
        if not self._journal.lost:
            self._listener.requested(execution)

    def failed(self, error: Exception) -> None:
        self._listener.failed(error)

    def claimable(self) -> None:
        self._listener.claimable()

    def disowned(self) -> None:
        self._listener.disowned()

    def watched(self) -> Watched:
        return self._listener.watched()


class CrashingJournal(MemoryJournal):
    """A journal that outlives its server, and can lose it at any commit.

    A lost server can write nothing more and hears of nothing. The next one that opens the journal owns its executions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.crash_point: CrashPoint | None = None
        self.crashed = asyncio.Event()
        self.last_commit: tuple[StoredEvent, ...] = ()
        """The events of the commit at which the server was lost."""
        self.lost = False
        self._commits = 0

    @property
    def unclaimed(self) -> bool:
        """Whether there are executions that nobody drives."""
        return bool(self._unowned)

    @property
    def executions(self) -> list[str]:
        """Oldest first."""
        return sorted(self._records)

    def lose_server(self) -> None:
        self.lost = True
        self.crashed.set()

    async def open(self, listener: JournalListener) -> None:
        self.lost, self.crash_point, self._commits = False, self.crash_point if not self.lost else None, 0
        self.crashed = asyncio.Event()
        self._unowned |= self._owned
        self._owned.clear()
        await super().open(_Muted(listener, self))

    async def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        crashes = self._reached(events)
        created = await super().create(summary, events)
        self._check(crashes)
        return created

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        crashes = self._reached(events)
        await super().append(execution, expected_sequence, events, fence, transition)
        self._check(crashes)

    async def release(self, execution: str, fence: int) -> None:
        if not self.lost:
            await super().release(execution, fence)

    async def claim(self, limit: int, capabilities: Capabilities) -> list[Claim]:
        return [] if self.lost else await super().claim(limit, capabilities)

    def _reached(self, events: Sequence[StoredEvent]) -> bool:
        """Whether the server is lost at this commit. Raises StaleAppendError when that is before it is durable."""
        self._check(self.lost)
        self._commits += 1
        point = self.crash_point
        if point is None or point.commit != self._commits:
            return False
        self.last_commit = tuple(events)
        self.lose_server()
        self._check(point.when == "before")
        return True

    @staticmethod
    def _check(lost: bool) -> None:
        if lost:
            raise StaleAppendError("the server was lost")


class _LastingSecrets(MemorySecretStore):
    """A store that the next server opens again."""

    async def close(self) -> None:
        """Nothing to do: it is the disk's."""


class MemoryDisk:
    """Journal and vault of one `MemoryGateway` after the other: `MemoryGateway(disk=disk)`."""

    def __init__(self) -> None:
        self.journal = CrashingJournal()
        self.secrets = _LastingSecrets()
        self.keyring = Keyring([LocalKey.random("memory-")])
