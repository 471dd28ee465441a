"""The journal on SQLite: one file, one server, one writer thread with group commit."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from torana_server.adapters.journal_rules import (
    check_gapless,
    closed,
    event_bytes,
    positioned_bytes,
    reached,
    why_blocked,
    within_bytes,
)
from torana_server.adapters.sqlite import queries
from torana_server.adapters.sqlite.database import open_reader, open_writer, translated
from torana_server.adapters.sqlite.folder import DataFolder, Room, free_bytes
from torana_server.adapters.sqlite.ledger import Ledger
from torana_server.adapters.sqlite.readers import Readers
from torana_server.adapters.sqlite.schema import migrate
from torana_server.adapters.sqlite.writer import Writer
from torana_server.adapters.sqlite.writes import Append, Create, PutDefinition, Release, Request, TakeOver
from torana_server.core.limits import MIB
from torana_server.execution.events import EventKind
from torana_server.execution.filters import Filter
from torana_server.execution.ports import (
    CancelRequest,
    Capabilities,
    Claim,
    Created,
    JournalListener,
    PositionedEvent,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
)

Found = TypeVar("Found")
READERS_DEFAULT: Final = 2
RESERVE_BYTES_DEFAULT: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class _Open:
    folder: DataFolder
    writer: Writer
    readers: Readers
    opening: int


class SqliteJournal:
    """The Journal contract on `folder/journal.db`, which it has for itself while it is open.

    Being alone, it owns what it created or claimed since `open`; whatever else is unfinished is there to be claimed.
    """

    kind = "sqlite"
    durable = True

    def __init__(
        self,
        folder: Path,
        *,
        reserve_bytes: int = RESERVE_BYTES_DEFAULT,
        readers: int = READERS_DEFAULT,
        vfs: str | None = None,
    ) -> None:
        """`folder` is made if need be. With less than `reserve_bytes` of disk left `create` is refused, so that what
        runs can finish. `readers` is the number of reading threads. `vfs` names a SQLite VFS, for tests."""
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._reader_count = readers
        self._vfs = vfs
        self._opened: _Open | None = None

    async def open(self, listener: JournalListener) -> None:
        """Also raises UnavailableError for a folder or file that cannot be used, saying why."""
        folder, connection, ledger, readers = await asyncio.to_thread(self._open_files)
        self._opened = _Open(folder, Writer(connection, ledger, listener), Readers(readers), ledger.opening)

    def _open_files(self) -> tuple[DataFolder, apsw.Connection, Ledger, list[apsw.Connection]]:
        folder = DataFolder(self._folder)
        try:
            connection = open_writer(folder.journal, self._vfs)
            migrate(connection)
            room = Room(functools.partial(free_bytes, self._folder), self._reserve_bytes)
            ledger = Ledger(connection, room.enough)
            readers = [open_reader(folder.journal, self._vfs) for _ in range(self._reader_count)]
        except Exception as error:
            folder.close()
            raise translated(error) from error
        return folder, connection, ledger, readers

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.readers.close()
            await opened.writer.close()
            opened.folder.close()

    async def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        check_gapless(0, events)
        created: Created = await self._writer().write(Create(_future(), summary, events))
        return created

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        check_gapless(expected_sequence, events)
        await self._writer().write(Append(_future(), execution, expected_sequence, events, fence, transition))

    async def read(self, execution: str, after_sequence: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        def query(connection: apsw.Connection) -> list[StoredEvent]:
            with contextlib.closing(connection.cursor()) as cursor:
                rows = cursor.execute(queries.READ, (execution, after_sequence, limit))
                return within_bytes(map(queries.event, rows), limit_bytes, event_bytes)[0]

        return await self._read(query)

    async def read_all(
        self,
        tenant: str,
        after_position: int,
        where: Filter,
        kinds: frozenset[EventKind],
        *,
        limit: int,
        limit_bytes: int,
    ) -> tuple[list[PositionedEvent], int]:
        def query(connection: apsw.Connection) -> tuple[list[PositionedEvent], int]:
            through = max(after_position, connection.execute(queries.POSITION).get)
            with contextlib.closing(connection.cursor()) as cursor:
                rows = cursor.execute(*queries.read_all(tenant, after_position, through, where, kinds, limit))
                events, complete = within_bytes(map(queries.positioned, rows), limit_bytes, positioned_bytes)
            return events, reached(events, through=through, limit=limit, complete=complete)

        return await self._read(query)

    async def position(self) -> int:
        position: int = await self._value(queries.POSITION, ())
        return position

    async def get(self, execution: str) -> Summary | None:
        return await self._summary(queries.GET, (execution,))

    async def summaries(self, tenant: str, where: Filter, *, limit: int, before: str | None) -> list[Summary]:
        sql, bindings = queries.summaries(tenant, where, limit, before)
        return await self._read(lambda connection: [queries.summary(row) for row in connection.execute(sql, bindings)])

    async def find(self, tenant: str, workflow: str, idempotency_key: str) -> Summary | None:
        return await self._summary(queries.FIND, (tenant, workflow, idempotency_key))

    async def request(self, execution: str, command: CancelRequest) -> None:
        await self._writer().write(Request(_future(), execution, command))

    async def requests(self, execution: str) -> list[CancelRequest]:
        def query(connection: apsw.Connection) -> list[CancelRequest]:
            return [CancelRequest(*row) for row in connection.execute(queries.COMMANDS, (execution,))]

        return await self._read(query)

    async def claim(self, limit: int, capabilities: Capabilities) -> list[Claim]:
        claims: list[Claim] = await self._writer().write(TakeOver(_future(), limit, capabilities))
        return claims

    async def renew(self) -> None:
        """Nothing to extend: the lock on the folder is the lease. Raises UnavailableError once it cannot write."""
        if failure := self._writer().failure:
            raise failure

    async def release(self, execution: str, fence: int) -> None:
        """Does nothing if this server does not own the execution under this fence."""
        await self._writer().write(Release(_future(), execution, fence))

    async def blocked(self, tenant: str, capabilities: Capabilities) -> Mapping[str, str]:
        opening = self._require().opening

        def query(connection: apsw.Connection) -> Mapping[str, str]:
            rows = list(connection.execute(queries.UNOWNED_OF_TENANT, (opening, tenant)))
            stored = {revision: _definition(connection, revision) for _, revision, _ in rows}
            reasons = {id_: why_blocked(rev, format_, stored[rev], capabilities) for id_, rev, format_ in rows}
            return {execution: reason for execution, reason in reasons.items() if reason}

        return await self._read(query)

    async def put_definition(self, definition: StoredDefinition) -> None:
        await self._writer().write(PutDefinition(_future(), definition))

    async def get_definition(self, revision: str) -> StoredDefinition | None:
        return await self._read(lambda connection: _definition(connection, revision))

    async def count(self) -> Mapping[str, int]:
        def query(connection: apsw.Connection) -> Mapping[str, int]:
            return {queries.STATES[state]: count for state, count in connection.execute(queries.COUNTS)}

        return await self._read(query)

    async def _value(self, sql: str, bindings: Sequence[Any]) -> Any:
        return await self._read(lambda connection: connection.execute(sql, bindings).get)

    async def _summary(self, sql: str, bindings: Sequence[Any]) -> Summary | None:
        def query(connection: apsw.Connection) -> Summary | None:
            row = connection.execute(sql, bindings).fetchone()
            return None if row is None else queries.summary(row)

        return await self._read(query)

    async def _read(self, query: Callable[[apsw.Connection], Found]) -> Found:
        return await self._require().readers.read(query)

    def _writer(self) -> Writer:
        return self._require().writer

    def _require(self) -> _Open:
        if self._opened is None:
            raise closed()
        return self._opened


def _definition(connection: apsw.Connection, revision: str) -> StoredDefinition | None:
    row = connection.execute(queries.DEFINITION, (revision,)).fetchone()
    return None if row is None else queries.definition(row)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()
