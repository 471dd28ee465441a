"""The version of the journal's tables, and how an older one becomes the current."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Final

import asyncpg

from torana_server.core.errors import UnavailableError

VERSION: Final = 1
MIGRATIONS: Final[Mapping[int, str]] = {}
"""Version N to the SQL that makes it of version N - 1. `schema.sql` is always the newest."""
LOCK: Final = 0x746F72616E61
"""The advisory lock of whoever migrates: "torana"."""


async def migrate(connection: asyncpg.Connection, schema: str) -> None:
    """Brings the tables in `schema`, which is on the search path, to VERSION in one transaction, from nothing or from
    an older version. Servers that start together wait for each other.

    Raises UnavailableError for tables that a newer server made.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", f'"{schema}"'):
            await connection.execute(f'CREATE SCHEMA "{schema}"')  # needs a privilege that the server may lack after
        version = await version_of(connection, schema)
        if version > VERSION:
            raise UnavailableError(
                f"the journal has version {version}, this server knows up to {VERSION}; start a server at least as "
                "new as the one that made it"
            )
        if version == 0:
            await connection.execute(resources.files(__package__).joinpath("schema.sql").read_text("utf-8"))
        for step in range(version + 1, VERSION + 1) if version else ():
            await connection.execute(MIGRATIONS[step])
            await connection.execute("UPDATE journal SET version = $1", step)
        await connection.execute(RAISE_POSITIONS)


async def version_of(connection: asyncpg.Connection, schema: str) -> int:
    """0 when the tables are not there."""
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f'"{schema}".journal'):
        return 0
    return int(await connection.fetchval("SELECT version FROM journal"))


RAISE_POSITIONS: Final = """
    UPDATE journal SET position_base = used.xid - pg_current_xact_id()::text::bigint
    FROM (SELECT coalesce(max(position) >> 20, 0) + 1 AS xid FROM events) AS used
    WHERE used.xid > pg_current_xact_id()::text::bigint + position_base
"""
"""After a move to a cluster that has not counted as far."""
