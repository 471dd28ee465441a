"""The journal on PostgreSQL: several servers, group commit on each, leases with fencing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from torana_server.adapters.journal_rules import (
    check_gapless,
    closed,
    event_bytes,
    positioned_bytes,
    reached,
    why_blocked,
    within_bytes,
)
from torana_server.adapters.postgres import queries
from torana_server.adapters.postgres.bus import Bus
from torana_server.adapters.postgres.connection import Place, gone, translated
from torana_server.adapters.postgres.opening import prepare
from torana_server.adapters.postgres.texts import escaped, plain
from torana_server.adapters.postgres.writer import Writer
from torana_server.adapters.postgres.writes import Append, Create, Release, TakeOver
from torana_server.execution.events import EventKind
from torana_server.execution.filters import Filter
from torana_server.execution.ports import (
    CancelRequest,
    Capabilities,
    Claim,
    Commit,
    Created,
    JournalListener,
    PositionedEvent,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
    Watched,
)

LEASE_S_DEFAULT: Final = 6.0
READERS_MAX: Final = 8
CLOSE_S_MAX: Final = 2.0
"""For reads that do not come to an end."""
SCHEMA_DEFAULT: Final = "torana"


@dataclass(frozen=True, slots=True)
class _Open:
    writer: Writer
    bus: Bus
    readers: asyncpg.Pool


class PostgresJournal:
    """The Journal contract in a schema of a PostgreSQL database that any number of servers share.

    A server that does not write for `lease_s` (its process died, was paused or cut off) loses its executions to the
    others. Needs a connection of its own for writes and one for notices, and up to `readers` for reads.
    """

    kind = "postgresql"
    durable = True

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = SCHEMA_DEFAULT,
        password: str | None = None,
        lease_s: float = LEASE_S_DEFAULT,
        readers: int = READERS_MAX,
        wait_s: float = 0.0,
    ) -> None:
        """`wait_s`: how long `open` waits for a database that does not answer."""
        self._place = Place(dsn, schema, password)
        self._wait_s = wait_s
        self._lease_s = lease_s
        self._reader_count = readers
        self._opened: _Open | None = None

    async def open(self, listener: JournalListener) -> None:
        """Raises UnavailableError for a database that cannot be reached or used, saying why."""
        place = await prepare(self._place, self._wait_s)
        bus = Bus(place, listener, lambda: writer.replica)
        writer = Writer(place, self._lease_s, _Telling(listener, bus))
        try:
            await writer.open()
            readers = await asyncpg.create_pool(min_size=1, max_size=self._reader_count, **place.pool_options())
        except Exception as error:
            await writer.close()
            raise translated(error) from error
        await bus.open()
        self._opened = _Open(writer, bus, readers)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.writer.close()
            await opened.bus.close()
            try:
                async with asyncio.timeout(CLOSE_S_MAX):
                    await opened.readers.close()
            except TimeoutError:
                opened.readers.terminate()

    async def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        check_gapless(0, events)
        created: Created = await self._require().writer.write(Create(_future(), summary, events))
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
        write = Append(_future(), execution, expected_sequence, events, fence, transition)
        await self._require().writer.write(write)

    async def read(self, execution: str, after_sequence: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        rows = await self._fetch(queries.READ, escaped(execution), after_sequence, limit)
        return within_bytes(map(queries.event, rows), limit_bytes, event_bytes)[0]

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
        through = max(after_position, await self.position())
        sql, values = queries.read_all(tenant, after_position, through, where, kinds, limit)
        rows = await self._fetch(sql, *values)
        events, complete = within_bytes(map(queries.positioned, rows), limit_bytes, positioned_bytes)
        return events, reached(events, through=through, limit=limit, complete=complete)

    async def position(self) -> int:
        ((position,),) = await self._fetch(queries.POSITION)
        return int(position)

    async def get(self, execution: str) -> Summary | None:
        return await self._summary(queries.GET, escaped(execution))

    async def summaries(self, tenant: str, where: Filter, *, limit: int, before: str | None) -> list[Summary]:
        sql, values = queries.summaries(tenant, where, limit, before)
        return [queries.summary(row) for row in await self._fetch(sql, *values)]

    async def find(self, tenant: str, workflow: str, idempotency_key: str) -> Summary | None:
        return await self._summary(queries.FIND, escaped(tenant), escaped(workflow), escaped(idempotency_key))

    async def request(self, execution: str, command: CancelRequest) -> None:
        values = escaped(execution), escaped(command.reason), escaped(command.subject)
        rows = await self._fetch(queries.INSERT_COMMAND, *values)
        if rows:
            self._require().bus.requested(execution, owner=rows[0][0])

    async def requests(self, execution: str) -> list[CancelRequest]:
        return [queries.command(row) for row in await self._fetch(queries.COMMANDS, escaped(execution))]

    async def claim(self, limit: int, capabilities: Capabilities) -> list[Claim]:
        claims: list[Claim] = await self._require().writer.write(TakeOver(_future(), limit, capabilities))
        return claims

    async def renew(self) -> None:
        """The writer does, all the time. Raises UnavailableError while the database is away."""
        self._require().writer.check()

    async def release(self, execution: str, fence: int) -> None:
        """Does nothing if this server does not own the execution under this fence."""
        await self._require().writer.write(Release(_future(), execution, fence))

    async def blocked(self, tenant: str, capabilities: Capabilities) -> Mapping[str, str]:
        rows = await self._fetch(queries.UNOWNED_OF_TENANT, escaped(tenant))
        stored = await self._fetch(queries.DEFINITIONS, [row[1] for row in rows])
        definitions = {definition.revision: definition for definition in map(queries.definition, stored)}
        reasons = {
            plain(id_): why_blocked(rev, format_, definitions.get(rev), capabilities) for id_, rev, format_ in rows
        }
        return {execution: reason for execution, reason in reasons.items() if reason}

    async def put_definition(self, definition: StoredDefinition) -> None:
        values = definition.revision, definition.name, definition.body, sorted(definition.requires)
        await self._fetch(queries.INSERT_DEFINITION, *values)

    async def get_definition(self, revision: str) -> StoredDefinition | None:
        rows = await self._fetch(queries.DEFINITION, escaped(revision))
        return queries.definition(rows[0]) if rows else None

    async def count(self) -> Mapping[str, int]:
        (row,) = await self._fetch(queries.COUNTS)
        return {queries.STATES[number]: int(count) for number, count in enumerate(row, 1)}

    async def _summary(self, sql: str, *values: object) -> Summary | None:
        rows = await self._fetch(sql, *values)
        return queries.summary(rows[0]) if rows else None

    async def _fetch(self, sql: str, *values: object) -> list[Any]:
        """While a write is in doubt nothing is read: what a read does not show must not appear any more."""
        opened = self._require()
        if opened.writer.away:
            raise gone()
        try:
            rows: list[Any] = await opened.readers.fetch(sql, *values)
        except Exception as error:
            raise translated(error) from error
        return rows

    def _require(self) -> _Open:
        if self._opened is None:
            raise closed()
        return self._opened


class _Telling:
    """This server's listener, and after it the others'."""

    def __init__(self, listener: JournalListener, bus: Bus) -> None:
        self._listener = listener
        self._bus = bus

    def committed(self, commits: Sequence[Commit]) -> None:
        self._listener.committed(commits)
        self._bus.tell(commits)

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

    def released(self) -> None:
        self._bus.released()


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()
