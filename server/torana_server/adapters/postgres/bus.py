"""The connection that listens to other servers, and tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from torana_server.adapters.postgres import queries
from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.notices import CHANNEL, Asked, Notice, Written, parsed, payloads
from torana_server.adapters.postgres.texts import plain
from torana_server.core import logs
from torana_server.execution.ports import Commit, JournalListener

POLL_S: Final = 1.0
"""How often commands are looked for: a notification may be lost, and a proxy that pools transactions passes none on."""

_log = logs.logger("journal")


class Bus:
    """Notices that gather while one is sent go together."""

    def __init__(self, place: Place, listener: JournalListener) -> None:
        self._place = place
        self._listener = listener
        self._outgoing: dict[str, Notice] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.replica = 0
        """Who this server is, for others; its own notices are not heard."""

    def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="journal notices")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def tell(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self._outgoing[f"e{commit.execution}"] = Written(commit.execution, commit.tenant, commit.through_sequence)
        self._work.set()

    def requested(self, execution: str, *, owner: int) -> None:
        """A command waits for the owner, which may be this server."""
        if owner == self.replica:
            self._listener.requested(execution)
            return
        self._outgoing[f"c{execution}"] = Asked(execution)
        self._work.set()

    async def _run(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(**self._place.options())
                try:
                    await self._serve(connection)
                finally:
                    connection.terminate()
            except Exception as error:  # noqa: BLE001 — hints only, tried again: those who watch poll
                _log.info("notices between servers wait: %s", type(error).__name__)
                await asyncio.sleep(POLL_S)

    async def _serve(self, connection: asyncpg.Connection) -> None:
        if not self._place.pooled:
            await connection.add_listener(CHANNEL, self._heard)
        while True:
            for row in await connection.fetch(queries.COMMANDS_OF_OWNER, self.replica):
                self._listener.requested(plain(row[0]))
            polled = asyncio.get_running_loop().time()
            while (left := polled + POLL_S - asyncio.get_running_loop().time()) > 0:
                await self._send_what_gathers(connection, left)

    async def _send_what_gathers(self, connection: asyncpg.Connection, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._work.wait()
        except TimeoutError:
            return
        self._work.clear()
        notices, self._outgoing = list(self._outgoing.values()), {}
        for payload in payloads(self.replica, notices):
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)

    def _heard(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        sender, notices = parsed(str(payload))
        if sender == self.replica:
            return
        commits = [
            Commit(notice.execution, notice.tenant, notice.through_sequence, 0)
            for notice in notices
            if isinstance(notice, Written)
        ]
        if commits:
            self._listener.committed(commits)
        for notice in notices:
            if isinstance(notice, Asked):
                self._listener.requested(notice.execution)
