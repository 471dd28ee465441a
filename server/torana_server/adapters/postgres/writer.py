"""The one task of a replica that writes. Everything that gathered while it wrote becomes one statement.

A group whose answer was lost is in doubt until a new connection finds out: `written` of the replica's row tells. Until
then nothing is read or written, so that what a read does not show will not appear any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg

from torana_server.adapters.journal_rules import closed, why_blocked
from torana_server.adapters.postgres import queries
from torana_server.adapters.postgres.connection import OF_ONE_WRITE, Place, gone, is_lost, translated
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
from torana_server.execution.ports import Capabilities, Claim, Commit, Created, JournalListener

GROUP_WRITES_MAX: Final = 256
GROUP_BYTES_MAX: Final = 8 * MIB
RECONNECT_S: Final = 0.2
PATIENCE_S: Final = 3.0
"""How long writes wait for a database that is away before they fail."""

_log = logs.logger("journal")


class Writer:
    """Owns this server's row among the replicas, and what is known of the executions it drives."""

    def __init__(self, place: Place, lease_s: float, listener: JournalListener) -> None:
        self._place = place
        self._lease = timedelta(seconds=lease_s)
        self._listener = listener
        self._connection: asyncpg.Connection | None = None
        self._owned: dict[str, Owned] = {}
        self._keys = iter(range(0))
        self._waiting: list[Write] = []
        self._work = asyncio.Event()
        self._closing = False
        self._groups = 0
        self._in_doubt: Group | None = None
        self._away_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self.replica = 0

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

    # --- the task --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if self.away and not await self._come_back():
                continue
            if self._waiting:
                await self._write_some()
            else:
                await self._idle()

    async def _idle(self) -> None:
        """Until there is work. Every group extends the lease; without any, this does."""
        self._work.clear()
        try:
            async with asyncio.timeout(self._lease.total_seconds() / 3):
                await self._work.wait()
        except TimeoutError:
            try:
                if await self._require().fetchval(queries.RENEW, self.replica, self._lease) is None:
                    await self._rejoin()
            except Exception as error:  # noqa: BLE001 — as below; what is wrong shows at the next write
                self._lost()
                _log.warning("the lease could not be extended: %s", type(error).__name__)

    async def _write_some(self) -> None:
        first = self._waiting[0]
        try:
            if isinstance(first, TakeOver):
                self._waiting.pop(0)
                tell(first.done, await self._take_over(first))
            elif isinstance(first, Release):
                self._waiting.pop(0)
                await self._release(first)
                tell(first.done, None)
            else:
                await self._write_group(self._next_writes())
        except Exception as error:  # noqa: BLE001 — the task's boundary: whatever it is, nobody may wait for ever
            if is_lost(error):
                self._lost()
            refuse(first.done, translated(error))

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
            if len(writes) == 1:
                refuse(writes[0].done, translated(error))
                return
            for write in writes:
                await self._write_group([write])
        except Exception as error:  # noqa: BLE001 — as above
            if is_lost(error):
                self._lost()
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
        self._groups += 1
        self._in_doubt = group
        row = await self._require().fetchrow(
            queries.WRITE_GROUP, self.replica, self._groups, self._lease, *group.arguments()
        )
        self._in_doubt = None
        if row is None:
            await self._rejoin()
            await self._write_group([write for write, _ in accepted])
            return
        refused = frozenset(group.created.keys() - set(row[1]))
        self._keep(group, refused)
        self._deliver(group.commits(row[0], refused))
        for write, key in accepted:
            if not isinstance(write, Create):
                tell(write.done, None)
            elif key not in refused:
                tell(write.done, Created(group.created[key], created=True, fence=1))
            else:
                await self._tell_who_was_first(write)

    async def _add(self, group: Group, write: Create | Append) -> int:
        if isinstance(write, Append):
            group.append(write.execution, write.expected_sequence, write.events, write.fence, write.transition)
            return 0
        key = await self._next_key()
        group.create(key, write.summary, write.events)
        return key

    async def _tell_who_was_first(self, write: Create) -> None:
        asked = write.summary
        values = escaped(asked.tenant), escaped(asked.workflow), escaped(asked.idempotency_key)
        row = await self._require().fetchrow(queries.FIND, *values)
        if row is None:
            refuse(write.done, ConflictError(f"an execution with the id {asked.execution} exists already"))
        else:
            tell(write.done, Created(queries.summary(row), created=False, fence=0))

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
        await connection.execute(queries.BURY)
        capabilities = write.capabilities
        blocked = await self._blocked_revisions(connection, capabilities)
        rows = await connection.fetch(queries.TAKE, self.replica, capabilities.journal_format, blocked, write.limit)
        claims = [self._claimed(row) for row in rows]
        return sorted(claims, key=lambda claim: claim.summary.execution)

    def _claimed(self, row: queries.Row) -> Claim:
        key, fence, *columns = row
        summary = queries.summary(columns)
        self._owned[summary.execution] = Owned(key, summary.tenant, fence, summary.latest_sequence)
        return Claim(summary, fence)

    async def _blocked_revisions(self, connection: asyncpg.Connection, capabilities: Capabilities) -> list[str]:
        waiting = [row[0] for row in await connection.fetch(queries.UNOWNED_REVISIONS)]
        stored = [queries.definition(row) for row in await connection.fetch(queries.DEFINITIONS, waiting)]
        definitions = {definition.revision: definition for definition in stored}
        return [one for one in waiting if why_blocked(one, 0, definitions.get(one), capabilities)]

    async def _release(self, write: Release) -> None:
        owned = self._owned.get(write.execution)
        if owned is not None and owned.fence == write.fence:
            await self._require().execute(queries.RELEASE, owned.key, self.replica, owned.fence)
            del self._owned[write.execution]

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
        connection = await asyncpg.connect(**self._place.options())
        try:
            if self.replica == 0:
                self.replica = await connection.fetchval(queries.JOIN, self._lease)
            written = await connection.fetchval(queries.WRITTEN, self.replica)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        in_doubt, self._in_doubt = self._in_doubt, None
        if written is None:
            await self._rejoin()
        elif in_doubt is not None and written == self._groups:
            self._keep(in_doubt, await self._not_created(connection, in_doubt))

    async def _not_created(self, connection: asyncpg.Connection, group: Group) -> frozenset[int]:
        rows = await connection.fetch("SELECT key FROM executions WHERE key = ANY ($1::bigint[])", list(group.created))
        return frozenset(group.created.keys() - {row[0] for row in rows})

    async def _rejoin(self) -> None:
        """The lease ran out and others took over: this server owns nothing any more, under any name."""
        _log.warning("this server was away for longer than its lease; its executions go on elsewhere")
        self._owned.clear()
        self.replica = await self._require().fetchval(queries.JOIN, self._lease)
        self._groups = 0
