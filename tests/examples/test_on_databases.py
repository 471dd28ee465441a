from __future__ import annotations

from pathlib import Path

import asyncpg
import redis.asyncio

from examples.running import cache_variables, database_variables, python
from integration.conftest import PostgresDatabase, ValkeyAddress


async def test_etl_puts_into_the_cache_what_is_in_the_database(
    tmp_path: Path, postgres: PostgresDatabase, valkey: ValkeyAddress
) -> None:
    database = await asyncpg.connect(postgres.url)
    await database.execute("CREATE TABLE ship (name text, length int); CREATE TABLE port (name text)")
    await database.close()
    said = python(tmp_path, "etl.py", "public", **database_variables(postgres), **cache_variables(valkey))
    assert said == "completed {'loaded': 2}\n"
    async with redis.asyncio.Redis(port=valkey.port, password=valkey.password, decode_responses=True) as cache:
        assert sorted(await cache.keys()) == ["public.port", "public.ship"]
        assert await cache.hgetall("public.ship") == {"name": "text", "length": "integer"}


async def test_saga_leaves_nothing_behind_of_an_order_that_cannot_be_finished(
    tmp_path: Path, postgres: PostgresDatabase
) -> None:
    where = database_variables(postgres)
    assert "'shipped': 'Oslo'" in python(tmp_path, "saga.py", "order-1", "lamp", "Oslo", **where)
    assert "'released': 'lamp'" in python(tmp_path, "saga.py", "order-2", "lamp", "Atlantis", **where)
    database = await asyncpg.connect(postgres.url)
    assert await database.fetchval("SELECT free FROM stock WHERE item = 'lamp'") == 4
    assert await database.fetchval("SELECT array_agg(amount ORDER BY amount) FROM ledger") == [-30, 0, 0, 0, 30, 30]
    await database.close()


async def test_saga_of_an_item_that_is_sold_out_fails_and_takes_no_money(
    tmp_path: Path, postgres: PostgresDatabase
) -> None:
    where = database_variables(postgres)
    for number in range(5):
        python(tmp_path, "saga.py", f"order-{number}", "lamp", "Oslo", **where)
    assert python(tmp_path, "saga.py", "order-5", "lamp", "Oslo", **where) == "failed {}\n"
    database = await asyncpg.connect(postgres.url)
    assert await database.fetchval("SELECT sum(amount) FROM ledger") == 5 * 30
    await database.close()


async def test_saga_of_one_order_runs_once_however_often_it_is_started(
    tmp_path: Path, postgres: PostgresDatabase
) -> None:
    where = database_variables(postgres)
    first = python(tmp_path, "saga.py", "order-1", "lamp", "Oslo", **where)
    assert python(tmp_path, "saga.py", "order-1", "lamp", "Oslo", **where) == first
    database = await asyncpg.connect(postgres.url)
    assert await database.fetchval("SELECT free FROM stock WHERE item = 'lamp'") == 4
    await database.close()
