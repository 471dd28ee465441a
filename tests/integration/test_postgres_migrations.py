"""The tables of journal and vault at the start of servers: made once, brought up to date, never taken backwards."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.migrations import MIGRATIONS, VERSION
from torana_server.adapters.postgres.opening import prepare
from torana_server.core.errors import UnavailableError

COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
    WHERE table_schema = 'torana' ORDER BY 1, 2
"""


async def ask(url: str, query: str) -> list[Any]:
    connection: Any = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def test_there_is_a_step_to_every_version_but_the_first() -> None:
    assert sorted(MIGRATIONS) == list(range(2, VERSION + 1))


async def test_servers_that_start_together_make_the_tables_once(postgres_url: str) -> None:
    await asyncio.gather(*(prepare(Place(postgres_url, "torana")) for _ in range(8)))
    assert await ask(postgres_url, "SELECT version FROM torana.journal") == [(VERSION,)]
    columns = await ask(postgres_url, COLUMNS)
    assert {table for table, *_ in columns} >= {"journal", "events", "secrets", "secret_audit"}
    await prepare(Place(postgres_url, "torana"))
    assert await ask(postgres_url, COLUMNS) == columns


async def test_tables_of_a_newer_release_are_refused_and_left_alone(postgres_url: str) -> None:
    await prepare(Place(postgres_url, "torana"))
    await ask(postgres_url, f"UPDATE torana.journal SET version = {VERSION + 1}")
    with pytest.raises(UnavailableError, match="start a server at least as new"):
        await prepare(Place(postgres_url, "torana"))
    assert await ask(postgres_url, "SELECT version FROM torana.journal") == [(VERSION + 1,)]
