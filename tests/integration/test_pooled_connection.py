"""What a connection through a pool of transactions does, held to PostgreSQL itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from torana_server.adapters.postgres.pooled import pooled_connection

WORK_MEM = "SELECT current_setting('work_mem')"


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[Any]:
    kind = pooled_connection({"work_mem": "1234kB", "search_path": '"a b"'})
    connection = await asyncpg.connect(postgres_url, connection_class=kind, statement_cache_size=0)
    yield connection
    await connection.close()


async def test_every_call_has_the_settings_and_leaves_none_behind(connection: Any) -> None:
    assert await connection.fetchval(WORK_MEM) == "1234kB"
    assert [row[0] for row in await connection.fetch("SHOW search_path")] == ['"a b"']
    assert (await connection.fetchrow(f"{WORK_MEM} WHERE $1", True))[0] == "1234kB"
    assert await connection.execute("SELECT set_config('work_mem', $1, false)", "1234kB") == "SELECT 1"
    async with connection.transaction():
        assert await connection.fetchval(WORK_MEM) == "1234kB"
    assert not connection.is_in_transaction()
    assert await asyncpg.Connection.fetchval(connection, "SHOW search_path") != '"a b"'


async def test_a_call_that_fails_leaves_no_transaction_open(connection: Any) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetchval("SELECT 1 / $1::int", 0)
    assert not connection.is_in_transaction()
    with pytest.raises(ZeroDivisionError):
        await create_and_fail(connection)
    assert await connection.fetchval("SELECT to_regclass('public.kept')") is None


async def create_and_fail(connection: Any) -> None:
    async with connection.transaction():
        await connection.execute("CREATE TABLE public.kept ()")
        raise ZeroDivisionError
