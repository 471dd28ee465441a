"""The thread that writes. Everything that gathered while it wrote becomes one commit.

Writes gather on the event loop and are handed over together, one hand-over at a time: the loop and the thread share
one interpreter lock, so each hand-over costs both of them more than many a write.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import apsw

from torana_server.adapters.journal_rules import closed
from torana_server.adapters.sqlite.database import OF_ONE_WRITE, PASSING, translated
from torana_server.adapters.sqlite.ledger import Committed, Ledger
from torana_server.adapters.sqlite.writes import Outcome, Write, weight
from torana_server.core import logs
from torana_server.core.errors import UnavailableError
from torana_server.core.limits import MIB
from torana_server.execution.ports import JournalListener

GROUP_WRITES_MAX: Final = 256
GROUP_BYTES_MAX: Final = 8 * MIB
GATHER_S: Final = 0.003
"""How long writes gather when many come at once. A lone writer never waits."""
BUSY_WRITES: Final = 3
"""The last group had at least so many: many come at once."""
CHECKPOINT_PAGES: Final = 1_000
"""Pages of 4 KiB written to the WAL between checkpoints."""

_log = logs.logger("journal")


class Writer:
    """Takes writes from the event loop, commits them in groups, and reports each group in one call to the loop.

    After an error that leaves open what reached the disk it writes nothing any more: the listener hears `failed`, and
    every write that waits or comes later fails.
    """

    def __init__(self, connection: apsw.Connection, ledger: Ledger, listener: JournalListener) -> None:
        self._connection = connection
        self._ledger = ledger
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Write] = []
        self._handed_over: queue.SimpleQueue[list[Write] | None] = queue.SimpleQueue()
        self._busy = False
        """Whether the thread has writes that it has not finished with, or is about to get some."""
        self._last_writes = 0
        self._stopping = False
        self._failure: UnavailableError | None = None
        self._pages = 0
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> UnavailableError | None:
        return self._failure

    async def write(self, write: Write) -> Any:
        if self._stopping:
            raise closed()
        if self._failure:
            raise self._failure
        self._gathered.append(write)
        if not self._busy:
            self._next()
        return await write.done

    def _next(self) -> None:
        """The thread has nothing to do: gives it what gathered, after a while if there is likely more to come."""
        self._busy = bool(self._gathered)
        if not self._busy:
            return
        if self._last_writes >= BUSY_WRITES:
            self._loop.call_later(GATHER_S, self._hand_over)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        writes, self._gathered = self._gathered, []
        self._last_writes = len(writes)
        self._handed_over.put(writes)

    async def close(self) -> None:
        """Commits what waits, then checkpoints and closes the connection."""
        if not self._stopping:
            self._stopping = True
            self._handed_over.put(self._gathered)
            self._gathered = []
            self._handed_over.put(None)
        await asyncio.shield(self._stopped)
        self._thread.join()

    # The thread from here on.

    def _run(self) -> None:
        try:
            while (writes := self._handed_over.get()) is not None:
                for group in _groups(writes):
                    self._settle(group)
                self._loop.call_soon_threadsafe(self._next)
            self._close_connection()
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set_result, None)

    def _settle(self, group: Sequence[Write]) -> None:
        if self._failure:
            self._refuse(group, self._failure)
            return
        try:
            committed = self._ledger.commit(group)
        except PASSING as error:
            _log.warning("the journal cannot take a group of %d writes now: %s", len(group), error)
            self._refuse(group, translated(error))
        except OF_ONE_WRITE as error:
            self._settle_alone(group, error)
        except Exception as error:  # noqa: BLE001 — the thread's boundary: whatever it is, nobody may wait for ever
            self._fail(group, error)
        else:
            self._loop.call_soon_threadsafe(self._deliver, committed)
            self._checkpoint_when_due()

    def _settle_alone(self, group: Sequence[Write], error: Exception) -> None:
        """One write of the group is at fault; on its own it fails alone."""
        if len(group) == 1:
            _log.warning("a write was refused", exc_info=error)
            self._refuse(group, translated(error))
            return
        for write in group:
            self._settle([write])

    def _refuse(self, group: Sequence[Write], error: Exception) -> None:
        outcomes = [Outcome(write.done, error=error) for write in group]
        self._loop.call_soon_threadsafe(self._deliver, Committed(outcomes))

    def _fail(self, group: Sequence[Write], error: Exception) -> None:
        _log.critical("the journal cannot be trusted to write any more; the server must stop", exc_info=error)
        self._failure = UnavailableError(
            "the journal failed and the server is stopping; whether the last writes were kept shows after its start"
        )
        self._loop.call_soon_threadsafe(self._listener.failed, error)
        self._refuse(group, self._failure)

    def _checkpoint_when_due(self) -> None:
        written, _ = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, True)
        self._pages += written
        if self._pages < CHECKPOINT_PAGES:
            return
        self._pages = 0
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except PASSING as error:
            _log.warning("the journal's checkpoint waits: %s", error)
        except apsw.Error as error:
            self._fail([], error)

    def _close_connection(self) -> None:
        try:
            if self._failure:
                # Leave the WAL to the next start: what it says counts, not what this process believes.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            else:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._connection.close()
        except apsw.Error as error:
            _log.warning("the journal was closed without its last checkpoint; the next start makes it", exc_info=error)

    # Back on the event loop.

    def _deliver(self, committed: Committed) -> None:
        try:
            if committed.commits:
                self._listener.committed(committed.commits)
            for execution in committed.wakes:
                self._listener.requested(execution)
        finally:
            for outcome in committed.outcomes:
                outcome.tell()


def _groups(writes: Sequence[Write]) -> Iterator[list[Write]]:
    """The writes in order, in commits of bounded size."""
    group: list[Write] = []
    size = 0
    for write in writes:
        group.append(write)
        size += weight(write)
        if len(group) == GROUP_WRITES_MAX or size >= GROUP_BYTES_MAX:
            yield group
            group, size = [], 0
    if group:
        yield group
