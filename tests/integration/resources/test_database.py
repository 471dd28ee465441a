from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from integration.conftest import PostgresDatabase, PostgresServer, free_port
from torana_server.core.errors import Reason, ResourceError
from torana_server.resources import ResourceReference, Resources, ResourceState
from unit.resources.world import ALICE, World, attempt


@pytest.fixture
async def world(postgres: PostgresDatabase) -> World:
    world = World()
    world.secrets.put(ALICE, "login", {"user": postgres.user, "password": postgres.password})
    return world


@pytest.fixture
async def resources(world: World) -> AsyncIterator[Resources]:
    resources = world.resources()
    yield resources
    await resources.close()


def reference(postgres: PostgresDatabase, **config: object) -> ResourceReference:
    settings = {"host": postgres.host, "port": postgres.port, "database": postgres.database, "ssl": False, **config}
    return ResourceReference("database", settings, credentials_ref="login")


async def test_a_step_uses_the_pool_as_the_guides_do(resources: Resources, postgres: PostgresDatabase) -> None:
    leases = attempt(resources, {"db": reference(postgres)})
    db: Any = await leases.get("db")
    async with db.acquire() as connection:
        await connection.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
    await db.executemany("INSERT INTO users VALUES ($1, $2)", [(1, "ada"), (2, "bob")])
    async with db.transaction() as connection:
        await connection.execute("UPDATE users SET name = 'eve' WHERE id = 2")
    await db.copy_records_to_table("users", records=[(3, "dan")])
    assert [row["name"] for row in await db.fetch("SELECT name FROM users ORDER BY id")] == ["ada", "eve", "dan"]
    assert (await db.fetchrow("SELECT * FROM users WHERE id = $1", 1))["name"] == "ada"
    assert await db.fetchval("SELECT count(*) FROM users") == 3
    assert await db.execute("DELETE FROM users") == "DELETE 3"
    assert (db.size, db.freesize) == (1, 1)
    await leases.release()


async def test_a_failed_transaction_is_rolled_back_and_the_drivers_error_reaches_the_step(
    resources: Resources, postgres: PostgresDatabase
) -> None:
    leases = attempt(resources, {"db": reference(postgres)})
    db: Any = await leases.get("db")
    await db.execute("CREATE TABLE t (id int PRIMARY KEY)")

    async def insert_twice() -> None:
        async with db.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            await connection.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(asyncpg.UniqueViolationError):
        await insert_twice()
    assert await db.fetchval("SELECT count(*) FROM t") == 0
    await leases.release()


async def test_exhaustion_names_the_resource_its_size_and_who_holds_it(
    resources: Resources, postgres: PostgresDatabase
) -> None:
    small = reference(postgres, max_size=2, acquire_timeout=0.05)
    slow = attempt(resources, {"main": small}, step="slow", execution="execution-slow")
    late = attempt(resources, {"db": small}, step="late", execution="execution-late")
    held: Any = await slow.get("main")
    one, two = await held.acquire(), await held.acquire()
    db: Any = await late.get("db")
    with pytest.raises(ResourceError) as caught:
        await db.fetchval("SELECT 1")
    assert caught.value.reason is Reason.RESOURCE_POOL_EXHAUSTED
    assert caught.value.metadata["size"] == "2"
    assert caught.value.metadata["resource"] == "db"
    assert str(caught.value).count("execution execution-slow step 'slow' (attempt 1) since 2023-11-14T22:13:20") == 2
    await held.release(one)
    assert await db.fetchval("SELECT 1") == 1
    await held.release(two)
    await slow.release()
    await late.release()


async def test_connections_a_step_kept_are_taken_back_when_it_ends(
    resources: Resources, postgres: PostgresDatabase
) -> None:
    leases = attempt(resources, {"db": reference(postgres, max_size=1)})
    db: Any = await leases.get("db")
    await db.acquire()
    await leases.release()
    other = attempt(resources, {"db": reference(postgres, max_size=1)}, step="next")
    again: Any = await other.get("db")
    assert await again.fetchval("SELECT 1") == 1
    with pytest.raises(ResourceError, match="has ended"):
        await db.fetchval("SELECT 1")
    await other.release()


async def test_a_statement_running_when_the_step_ends_does_not_keep_its_connection(
    resources: Resources, postgres: PostgresDatabase
) -> None:
    leases = attempt(resources, {"db": reference(postgres, max_size=1)})
    db: Any = await leases.get("db")
    connection = await db.acquire()
    running = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    await leases.release()
    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], Exception)
    other = attempt(resources, {"db": reference(postgres, max_size=1)}, step="next")
    again: Any = await other.get("db")
    assert await again.fetchval("SELECT 1") == 1
    await other.release()


async def test_a_pool_whose_server_went_away_is_unhealthy_and_replaced_once_it_is_back(
    resources: Resources, postgres: PostgresDatabase, postgres_server: PostgresServer, world: World
) -> None:
    world.registry.register("main", reference(postgres), tenant=ALICE.tenant)
    first = attempt(resources, {"db": reference(postgres)})
    await first.get("db")
    postgres_server.stop()
    try:
        status = await resources.check(ALICE, "main")
        assert status.state is ResourceState.UNHEALTHY
        assert status.last_error
    finally:
        postgres_server.start()
    second = attempt(resources, {"db": reference(postgres)}, step="next")
    db: Any = await second.get("db")
    assert await db.fetchval("SELECT 1") == 1
    assert (await resources.get(ALICE, "main")).state is ResourceState.HEALTHY
    await first.release()
    await second.release()


async def test_a_pool_with_every_connection_lent_out_is_healthy(
    resources: Resources, postgres: PostgresDatabase, world: World
) -> None:
    shared = reference(postgres, max_size=1)
    world.registry.register("main", shared, tenant=ALICE.tenant)
    leases = attempt(resources, {"db": shared})
    db: Any = await leases.get("db")
    async with db.acquire() as connection:
        assert (await resources.check(ALICE, "main")).state is ResourceState.HEALTHY
        await connection.execute("SELECT 1")
    pool = (await resources.list(ALICE))[0].pool
    assert pool == {"size": 1, "free": 1, "max_size": 1, "in_use": 0}
    await leases.release()


@pytest.mark.parametrize("secret", ["dsn", "wrong-host-dsn"])
async def test_a_dsn_in_the_secret_logs_in_and_config_wins_over_it(
    secret: str, world: World, resources: Resources, postgres: PostgresDatabase
) -> None:
    dsn = postgres.url if secret == "dsn" else postgres.url.replace("127.0.0.1", "127.0.0.9")
    world.secrets.put(ALICE, "login", {"dsn": dsn})
    config = {} if secret == "dsn" else {"host": postgres.host}
    leases = attempt(resources, {"db": ResourceReference("database", config, credentials_ref="login")})
    db: Any = await leases.get("db")
    assert await db.fetchval("SELECT current_database()") == postgres.database
    await leases.release()


async def unavailable(resources: Resources, wanted: ResourceReference) -> ResourceError:
    with pytest.raises(ResourceError) as caught:
        async with asyncio.timeout(5):
            await attempt(resources, {"db": wanted}).get("db")
    return caught.value


async def test_a_wrong_password_is_unavailable_and_says_neither_user_nor_password(
    world: World, resources: Resources, postgres: PostgresDatabase
) -> None:
    world.secrets.put(ALICE, "login", {"user": postgres.user, "password": "canary-wrong"})
    error = await unavailable(resources, reference(postgres))
    assert error.reason is Reason.RESOURCE_UNAVAILABLE
    assert "InvalidPasswordError" in str(error)
    assert "canary-wrong" not in str(error)
    assert postgres.user not in str(error)


async def test_a_server_that_is_down_is_unavailable_at_once(resources: Resources, postgres: PostgresDatabase) -> None:
    error = await unavailable(resources, reference(postgres, port=free_port()))
    assert error.reason is Reason.RESOURCE_UNAVAILABLE
    assert error.retry_after_s == pytest.approx(1.0)


async def test_an_unknown_host_is_unavailable(resources: Resources, postgres: PostgresDatabase) -> None:
    error = await unavailable(resources, reference(postgres, host="nowhere.invalid"))
    assert error.reason is Reason.RESOURCE_UNAVAILABLE
    assert "nowhere.invalid" in str(error)


async def test_a_server_that_accepts_and_says_nothing_is_unavailable_after_the_connect_timeout(
    resources: Resources, postgres: PostgresDatabase
) -> None:
    silent = await asyncio.start_server(_keep_open, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    error = await unavailable(resources, reference(postgres, port=port, timeout=0.1))
    assert error.reason is Reason.RESOURCE_UNAVAILABLE
    assert "no answer in time" in str(error)
    silent.close()


async def _keep_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_no_repr_of_a_database_shows_its_credentials(
    world: World, resources: Resources, postgres: PostgresDatabase
) -> None:
    leases = attempt(resources, {"db": reference(postgres)})
    db: Any = await leases.get("db")
    pool = db._pool
    shown = [repr(part) for part in (db, pool, pool.connections, pool.connections._connect_kwargs, leases)]
    shown += [str(await resources.list(ALICE)), json.dumps([dict(s.pool) for s in await resources.list(ALICE)])]
    assert not [text for text in shown if postgres.password in text]
    await leases.release()


async def test_a_step_can_neither_close_nor_reconfigure_a_shared_pool(
    resources: Resources, postgres: PostgresDatabase
) -> None:
    leases = attempt(resources, {"db": reference(postgres)})
    db: Any = await leases.get("db")
    for name in ("close", "terminate", "set_connect_args", "expire_connections"):
        with pytest.raises(AttributeError, match="cannot close or reconfigure"):
            getattr(db, name)
    await leases.release()
