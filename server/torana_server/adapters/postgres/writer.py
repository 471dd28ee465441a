"""The one task of a replica that writes. Everything that gathered while it wrote becomes one statement.

Statements that write are numbered, and `written` of the replica's row is the number of the last. One whose answer was
lost is in doubt until a new connection finds out: it reads `written`, and where that is another number raises it, so
that the statement does nothing any more if it is still on its way. Until then nothing is read or written: what a read
does not show will not appear any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

import asyncpg

from torana_server.adapters.journal_rules import closed, why_blocked
from torana_server.adapters.postgres import queries
from torana_server.adapters.postgres.connection import ANSWER_TIMEOUT_S, OF_ONE_WRITE, Place, gone, is_lost, translated
from torana_server.adapters.postgres.group import Group, Owned
from torana_server.adapters.postgres.texts import escaped
from torana_server.adapters.postgres.writes import (
    Append,
    Create,
    Release,
    TakeOver,
    Write,
    refuse,
    size_bytes,
    tell,
)
from torana_server.core import logs
from torana_server.core.errors import ConflictError, StaleAppendError
from torana_server.core.limits import MIB
from torana_server.execution.ports import (
    FIRST_FENCE,
    Capabilities,
    Claim,
    Commit,
    Created,
    JournalListener,
    Summary,
)

GROUP_WRITES_MAX: Final = 256
GROUP_BYTES_MAX: Final = 8 * MIB
RECONNECT_S: Final = 0.2
PATIENCE_S: Final = 3.0
"""How long writes wait for a database that is away before they fail."""
BY_INDEX: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""Every statement of a writer finds its few rows by an index, whatever PostgreSQL believes of the size of tables; so it
is planned once."""

_log = logs.logger("journal")


@dataclass(slots=True)
class _InDoubt:
    """A group whose answer has not come."""

    number: int
    group: Group
    was_written: bool = False


class OwnershipListener(JournalListener, Protocol):
    """What the writer has to say beyond a journal's listener."""

    def released(self) -> None:
        """Another server may take over what this one gave up."""


class Writer:
    """Owns this server's row among the replicas, and what is known of the executions it drives."""

    def __init__(self, place: Place, lease_s: float, listener: OwnershipListener) -> None:
        self._place = place
        self._lease = timedelta(seconds=lease_s)
        self._renew_s = lease_s / 3
        self._answer_s = min(ANSWER_TIMEOUT_S, lease_s / 2)
        self._listener = listener
        self._connection: asyncpg.Connection | None = None
        self._owned: dict[str, Owned] = {}
        self._keys = iter(range(0))
        self._waiting: list[Write] = []
        self._work = asyncio.Event()
        self._closing = False
        self._number = 0
        """Of the last statement that was sent."""
        self._in_doubt: _InDoubt | None = None
        self._extended_at = 0.0
        self._away_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self.replica = 0
        """Another one after each time that the lease ran out."""

    async def open(self) -> None:
        """Raises what asyncpg raises."""
        await self._connect()
        self._task = asyncio.create_task(self._run(), name="journal writer")

    @property
    def away(self) -> bool:
        """Whether the database does not answer, or what it holds is in doubt."""
        return self._away_since is not None

    async def write(self, write: Write) -> Any:
        if self._closing:
            raise closed()
        if self._overdue():
            raise gone()
        self._waiting.append(write)
        self._work.set()
        return await write.done

    def check(self) -> None:
        """Raises UnavailableError while the database is away."""
        if self.away:
            raise gone()

    async def close(self) -> None:
        """Writes what waits, then gives up everything it owns and leaves the replicas."""
        if self._closing:
            return
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._connection.execute(queries.LEAVE, self.replica)
                await self._connection.close()
        self._listener.released()

    # --- the task --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if self.away and not await self._come_back():
                continue
            if self._renewal_in_s() <= 0:
                await self._renew()
            elif self._waiting:
                await self._write_some()
            else:
                await self._idle()

    def _renewal_in_s(self) -> float:
        """Every group and every claim extends the lease. Without any, a renewal does."""
        return self._extended_at + self._renew_s - asyncio.get_running_loop().time()

    async def _idle(self) -> None:
        """Until there is work."""
        self._work.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._renewal_in_s()):
                await self._work.wait()

    async def _renew(self) -> None:
        self._extends()
        try:
            if await self._require().fetchval(queries.RENEW, self.replica, self._lease) is None:
                await self._rejoin()
        except Exception as error:  # noqa: BLE001 — the task's boundary; what is wrong shows at the next write
            self._lost()
            _log.warning("the lease could not be extended: %s", type(error).__name__)

    def _extends(self) -> None:
        """What is about to be sent extends the lease."""
        self._extended_at = asyncio.get_running_loop().time()

    async def _write_some(self) -> None:
        first = self._waiting[0]
        try:
            if isinstance(first, TakeOver):
                self._waiting.pop(0)
                if not first.done.done():
                    tell(first.done, await self._take_over(first))
            elif isinstance(first, Release):
                self._waiting.pop(0)
                await self._release(first)
                tell(first.done, None)
            else:
                await self._write_group(self._next_writes())
        except Exception as error:  # noqa: BLE001 — the task's boundary: whatever it is, nobody may wait for ever
            self._look_after(error)
            refuse(first.done, translated(error))

    def _look_after(self, error: Exception) -> None:
        """What an error means for the connection."""
        if is_lost(error) or self._connection is None or self._connection.is_closed():
            self._lost()
        else:
            self._in_doubt = None  # PostgreSQL refused the statement, and took back all of it

    def _next_writes(self) -> list[Create | Append]:
        """The creates and appends at the head of the line, in bounded number. An append to what is created in the same
        group stays behind."""
        taken: list[Create | Append] = []
        created: set[str] = set()
        size = 0
        for write in self._waiting:
            if isinstance(write, (TakeOver, Release)) or len(taken) == GROUP_WRITES_MAX or size >= GROUP_BYTES_MAX:
                break
            if isinstance(write, Create):
                created.add(write.summary.execution)
            elif write.execution in created:
                break
            taken.append(write)
            size += size_bytes(write)
        del self._waiting[: len(taken)]
        return taken

    async def _write_group(self, writes: Sequence[Create | Append]) -> None:
        try:
            await self._commit(writes)
        except OF_ONE_WRITE as error:
            self._in_doubt = None
            if len(writes) == 1:
                refuse(writes[0].done, translated(error))
                return
            for write in writes:
                await self._write_group([write])
        except Exception as error:  # noqa: BLE001 — as above
            self._look_after(error)
            for write in writes:
                refuse(write.done, translated(error))

    async def _commit(self, writes: Sequence[Create | Append]) -> None:
        group = Group(self._owned)
        accepted: list[tuple[Create | Append, int]] = []
        for write in writes:
            try:
                accepted.append((write, await self._add(group, write)))
            except StaleAppendError as stale:
                refuse(write.done, stale)
        if not accepted:
            return
        connection = self._require()
        self._number += 1
        self._in_doubt = _InDoubt(self._number, group)
        self._extends()
        row = await connection.fetchrow(
            queries.WRITE_GROUP, self.replica, self._number, self._lease, *group.arguments()
        )
        self._in_doubt = None
        if row is None:
            await self._rejoin()
            await self._write_group([write for write, _ in accepted])
            return
        refused = frozenset(group.created.keys() - set(row[1]))
        self._keep(group, refused)
        self._deliver(group.commits(row[0], refused))
        await self._answer(accepted, group, refused)

    async def _answer(
        self, accepted: Sequence[tuple[Create | Append, int]], group: Group, refused: frozenset[int]
    ) -> None:
        """Those first whose outcome is known already."""
        late: list[Create] = []
        for write, key in accepted:
            if not isinstance(write, Create):
                tell(write.done, None)
            elif key not in refused:
                tell(write.done, Created(group.created[key], created=True, fence=FIRST_FENCE))
            else:
                late.append(write)
        first: dict[tuple[str, str, str], Summary | None] = {}
        for create in late:
            asked = create.summary
            key_of = asked.tenant, asked.workflow, asked.idempotency_key
            if key_of not in first:
                first[key_of] = await self._found(*key_of)
            _tell_who_was_first(create, first[key_of])

    async def _found(self, *key: str) -> Summary | None:
        row = await self._require().fetchrow(queries.FIND, *map(escaped, key))
        return None if row is None else queries.summary(row)

    async def _add(self, group: Group, write: Create | Append) -> int:
        if isinstance(write, Append):
            group.append(write.execution, write.expected_sequence, write.events, write.fence, write.transition)
            return 0
        key = await self._next_key()
        group.create(key, write.summary, write.events)
        return key

    def _keep(self, group: Group, refused: frozenset[int] = frozenset()) -> None:
        not_created = {group.created[key].execution for key in refused}
        for execution, owned in group.changes.items():
            if owned is None:
                self._owned.pop(execution, None)
            elif execution not in not_created:
                self._owned[execution] = owned

    def _deliver(self, commits: Sequence[Commit]) -> None:
        if commits:
            self._listener.committed(commits)

    async def _next_key(self) -> int:
        for key in self._keys:
            return key
        first = await self._require().fetchval(queries.KEYS)
        self._keys = iter(range(first + 1, first + queries.KEYS_BLOCK))
        return int(first)

    # --- ownership -------------------------------------------------------------------------------------------------

    async def _take_over(self, write: TakeOver) -> list[Claim]:
        connection = self._require()
        gone_owners = [row[0] for row in await connection.fetch(queries.BURY, self.replica)]
        if not gone_owners:
            return []
        blocked = await self._blocked_revisions(connection, gone_owners, write.capabilities)
        self._number += 1
        self._extends()
        values = gone_owners, write.capabilities.journal_format, blocked, write.limit
        rows = await connection.fetch(queries.TAKE, self.replica, self._number, self._lease, *values)
        claims = [self._claimed(row) for row in rows]
        if write.done.done():  # who asked has gone
            for claim in claims:
                del self._owned[claim.summary.execution]
            await self._release_forgotten(connection)
        return sorted(claims, key=lambda claim: claim.summary.execution)

    def _claimed(self, row: queries.Row) -> Claim:
        key, fence, *columns = row
        summary = queries.summary(columns)
        self._owned[summary.execution] = Owned(key, summary.tenant, fence, summary.latest_sequence)
        return Claim(summary, fence)

    async def _blocked_revisions(
        self, connection: asyncpg.Connection, gone_owners: Sequence[int], capabilities: Capabilities
    ) -> list[str]:
        waiting = [row[0] for row in await connection.fetch(queries.UNOWNED_REVISIONS, gone_owners)]
        stored = [queries.definition(row) for row in await connection.fetch(queries.DEFINITIONS, waiting)]
        definitions = {definition.revision: definition for definition in stored}
        return [one for one in waiting if why_blocked(one, 0, definitions.get(one), capabilities)]

    async def _release(self, write: Release) -> None:
        owned = self._owned.get(write.execution)
        if owned is None or owned.fence != write.fence:
            return
        try:
            await self._require().execute(queries.RELEASE, owned.key, self.replica, owned.fence)
        except Exception as error:
            if is_lost(error):
                del self._owned[write.execution]  # whether or not it was, the next connection releases it
            raise
        del self._owned[write.execution]
        self._listener.released()

    async def _release_forgotten(self, connection: asyncpg.Connection) -> None:
        """What the database says is this server's, but this server does not know of: nobody would ever run it."""
        known = [owned.key for owned in self._owned.values()]
        if await connection.execute(queries.RELEASE_ALL_BUT, self.replica, known) != "UPDATE 0":
            self._listener.released()

    # --- the database away and back --------------------------------------------------------------------------------

    def _require(self) -> asyncpg.Connection:
        if self._connection is None:
            raise gone()
        return self._connection

    def _lost(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            _log.warning("the journal's database does not answer; what runs waits for it")

    def _overdue(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._away_since is not None and now - self._away_since > PATIENCE_S

    async def _come_back(self) -> bool:
        """One try. What waits too long is refused."""
        try:
            await self._connect()
        except Exception as error:  # noqa: BLE001 — tried again, and said each time
            self._lost()
            _log.info("the journal's database is still away: %s", type(error).__name__)
            if self._overdue() or self._closing:
                waiting, self._waiting = self._waiting, []
                for write in waiting:
                    refuse(write.done, gone())
            await asyncio.sleep(RECONNECT_S)
            return False
        self._away_since = None
        _log.warning("the journal's database answers again")
        return True

    async def _connect(self) -> None:
        options = {**self._place.options(), "command_timeout": self._answer_s}
        if not self._place.pooled:
            options["server_settings"] = {**options["server_settings"], **BY_INDEX}
        connection = await asyncpg.connect(**options)
        try:
            if self.replica == 0:
                self.replica = await connection.fetchval(queries.JOIN, self._lease)
            self._extends()
            owns = await self._fence_what_was_sent(connection)
            await self._settle_doubt(connection)
            if owns:
                await self._release_forgotten(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        if not owns:
            await self._rejoin()

    async def _fence_what_was_sent(self, connection: asyncpg.Connection) -> bool:
        """From here on no statement of an earlier connection writes anything. Whether the lease still stands."""
        async with connection.transaction():
            written = await connection.fetchval(queries.WRITTEN, self.replica)
            if self._in_doubt is not None and self._in_doubt.number == written:
                self._in_doubt.was_written = True
            elif written is not None:
                self._number += 1
                await connection.execute(queries.FENCE, self.replica, self._number, self._lease)
        return written is not None

    async def _settle_doubt(self, connection: asyncpg.Connection) -> None:
        doubt = self._in_doubt
        if doubt is not None and doubt.was_written:
            group = doubt.group
            rows = await connection.fetch(queries.CREATED, list(group.created))
            self._keep(group, frozenset(group.created.keys() - {row[0] for row in rows}))
        self._in_doubt = None

    async def _rejoin(self) -> None:
        """The lease ran out and others took over: this server owns nothing any more, under any name."""
        _log.warning("this server was away for longer than its lease; its executions go on elsewhere")
        self._owned.clear()
        self._listener.disowned()
        self.replica = await self._require().fetchval(queries.JOIN, self._lease)
        self._number = 0


def _tell_who_was_first(write: Create, first: Summary | None) -> None:
    if first is None:
        refuse(write.done, ConflictError(f"an execution with the id {write.summary.execution} exists already"))
    else:
        tell(write.done, Created(first, created=False, fence=0))
