"""The connection that listens to other servers, tells them, and looks for what nobody told.

Hints come at once but may be lost: PostgreSQL keeps none for a connection that was away, a server may die between a
commit and its notice, and a proxy that pools transactions passes none on. Whatever they are about is therefore looked
for every POLL_S as well, in a few cheap statements however much there is to watch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg

from torana_server.adapters.postgres import queries
from torana_server.adapters.postgres.connection import CONNECT_TIMEOUT_S, Place
from torana_server.adapters.postgres.notices import CHANNEL, Asked, Notice, Released, Written, parsed, payloads
from torana_server.adapters.postgres.texts import escaped, plain
from torana_server.core import logs
from torana_server.execution.ports import Commit, JournalListener

POLL_S: Final = 1.0
HORIZON_S: Final = 0.005
"""How soon after a commit it is looked whether those who watch all executions may read it; then twice as late each
time, up to POLL_S. Another transaction that began before it and goes on holds them up."""
OUTGOING_MAX: Final = 10_000
"""Notices that wait for a connection. What is beyond is found by polling."""
FAREWELL_S: Final = 1.0

_log = logs.logger("journal")


class Bus:
    """Notices that gather while one is sent go together."""

    def __init__(self, place: Place, listener: JournalListener, replica: Callable[[], int]) -> None:
        """`replica`: who this server is at the moment; its own notices are not heard."""
        self._place = place
        self._listener = listener
        self._replica = replica
        self._outgoing: dict[str, Notice] = {}
        self._work = asyncio.Event()
        self._closing = False
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._poll_at = 0.0
        self._horizon = 0
        """The position up to which those who watch all executions were told that they may read."""
        self._committed = 0
        """The highest position that was heard of."""
        self._horizon_at = 0.0
        self._horizon_pause_s = HORIZON_S

    async def open(self) -> None:
        """Returns when it listens, unless that takes long."""
        self._task = asyncio.create_task(self._run(), name="journal notices")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._listening.wait()

    async def close(self) -> None:
        """Says what is still to be said, if that takes no time."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=FAREWELL_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def tell(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self._say(
                f"e{commit.execution}",
                Written(commit.execution, commit.tenant, commit.through_sequence, commit.position),
            )
        self._await_horizon(commits)

    def requested(self, execution: str, *, owner: int) -> None:
        """A command waits for the owner, which may be this server."""
        if owner == self._replica():
            self._listener.requested(execution)
        else:
            self._say(f"c{execution}", Asked(execution))

    def released(self) -> None:
        """Another server may claim something."""
        self._say("r", Released())

    def _say(self, key: str, notice: Notice) -> None:
        if len(self._outgoing) < OUTGOING_MAX or key in self._outgoing:
            self._outgoing[key] = notice
        self._work.set()

    def _await_horizon(self, commits: Sequence[Commit]) -> None:
        """Those who watch all executions cannot read these commits before every older transaction has ended."""
        self._committed = max(self._committed, *(commit.position for commit in commits))
        self._horizon_pause_s = HORIZON_S
        self._horizon_at = min(self._horizon_at, asyncio.get_running_loop().time() + HORIZON_S)
        self._work.set()

    # --- the task --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._closing:
            try:
                connection = await asyncpg.connect(**self._options())
                try:
                    await self._serve(connection)
                finally:
                    connection.terminate()
            except Exception as error:  # noqa: BLE001 — hints only, tried again: those who watch poll
                _log.info("notices between servers wait: %s", type(error).__name__)
                await asyncio.sleep(POLL_S)

    def _options(self) -> dict[str, Any]:
        options = self._place.options()
        if self._place.pooled:
            return options
        settings = options.get("server_settings", {})
        # A transaction that notifies writes a commit record; nobody needs it on the disk.
        return {**options, "server_settings": {**settings, "synchronous_commit": "off"}}

    async def _serve(self, connection: asyncpg.Connection) -> None:
        if not self._place.pooled:
            await connection.add_listener(CHANNEL, self._heard)
        self._listening.set()
        loop = asyncio.get_running_loop()
        self._poll_at = loop.time()
        while not (self._closing and not self._outgoing):
            await self._send(connection)
            if loop.time() >= self._poll_at:
                self._poll_at = loop.time() + POLL_S
                await self._poll(connection)
            if self._committed > self._horizon and loop.time() >= self._horizon_at:
                await self._look_at_horizon(connection)
            await self._wait(loop)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        at = self._poll_at if self._committed <= self._horizon else min(self._poll_at, self._horizon_at)
        if not self._work.is_set() and not self._closing:
            timer = loop.call_at(at, self._work.set)
            await self._work.wait()
            timer.cancel()
        self._work.clear()

    async def _send(self, connection: asyncpg.Connection) -> None:
        notices, self._outgoing = list(self._outgoing.values()), {}
        for payload in payloads(self._replica(), notices):
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)

    async def _poll(self, connection: asyncpg.Connection) -> None:
        replica = self._replica()
        for row in await connection.fetch(queries.COMMANDS_OF_OWNER, replica):
            self._listener.requested(plain(row[0]))
        if await connection.fetchval(queries.LAPSED, replica):
            self._listener.claimable()
        watched = self._listener.watched()
        if watched.executions:
            rows = await connection.fetch(queries.LATEST, [escaped(execution) for execution in watched.executions])
            self._listener.committed([Commit(plain(row[0]), plain(row[1]), row[2] or 0, 0) for row in rows])
        if watched.all:
            await self._look_at_horizon(connection)

    async def _look_at_horizon(self, connection: asyncpg.Connection) -> None:
        """Wakes those who watch all executions when there is more that they may read."""
        position = 0
        if self._listener.watched().all:
            position = await connection.fetchval(queries.POSITION)
        else:
            self._committed = self._horizon
        if position > self._horizon:
            self._horizon = position
            self._listener.committed([])
        self._horizon_at = asyncio.get_running_loop().time() + self._horizon_pause_s
        self._horizon_pause_s = min(self._horizon_pause_s * 2, POLL_S)

    # --- what others say -------------------------------------------------------------------------------------------

    def _heard(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        sender, notices = parsed(str(payload))
        if sender == self._replica():
            return
        commits = [
            Commit(notice.execution, notice.tenant, notice.through_sequence, notice.position)
            for notice in notices
            if isinstance(notice, Written)
        ]
        if commits:
            self._listener.committed(commits)
            self._await_horizon(commits)
        for notice in notices:
            if isinstance(notice, Asked):
                self._listener.requested(notice.execution)
            elif isinstance(notice, Released):
                self._listener.claimable()
