"""The databases of the guides' examples, under the names and logins that the guides give them."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from integration.conftest import PostgresServer, start_postgres

PASSWORD = "secure_password"
"""The one that the guides store for their database users."""
LOGINS = ("dbuser", "app_user")
"""May do everything in every database of a test."""
HARDCODED = ("user", "pass")
"""The login that a step of the guides has in its text."""
READER = "app_reader"
"""May do what a script grants it."""
SERVERS_OWN = getpass.getuser()
"""Who a reference without credentials is; trusted, as a developer's own database trusts its neighbours."""


def start_server(root: Path) -> PostgresServer:
    """A cluster of its own below `root`."""
    server = start_postgres(root)
    rules = server.folder / "pg_hba.conf"
    rules.write_text(f'host all "{SERVERS_OWN}" 127.0.0.1/32 trust\n{rules.read_text()}')
    server.stop()
    server.start()
    return server


@dataclass(slots=True)
class Databases:
    """Made by a test, and by the next one that wants the name made anew."""

    server: PostgresServer

    async def make_logins(self) -> None:
        """Once for a server."""
        async with self.open("postgres") as connection:
            for login in (*LOGINS, READER):
                await connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}'")
            await connection.execute(f'CREATE ROLE "{SERVERS_OWN}" LOGIN')
            await connection.execute("CREATE ROLE \"{}\" LOGIN PASSWORD '{}'".format(*HARDCODED))

    async def make(self, name: str, script: str = "SELECT 1") -> None:
        """A new database, empty but for what `script` makes."""
        async with self.open("postgres") as connection:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await connection.execute(f'CREATE DATABASE "{name}"')
        async with self.open(name) as connection:
            await connection.execute(script)
            for login in (*LOGINS, SERVERS_OWN):
                await connection.execute(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{login}"')

    async def rows(self, database: str, query: str, *arguments: object) -> list[dict[str, Any]]:
        async with self.open(database) as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]

    @asynccontextmanager
    async def open(self, database: str) -> AsyncIterator[Any]:
        """As the server's administrator."""
        connection: Any = await asyncpg.connect(
            host=str(self.server.folder), port=self.server.port, user="postgres", password="", database=database
        )
        try:
            yield connection
        finally:
            await connection.close()
