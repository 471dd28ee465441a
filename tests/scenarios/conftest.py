"""Each scenario runs twice, embedded and over gRPC, on the real servers of the integration tests.

`run` runs a workflow; `database` and `cache` are references to an empty database and an emptied Valkey; `sql` and
`keys` look into them from outside; `api` is an HTTP server.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

import torana
from integration.conftest import (
    PostgresDatabase,
    PostgresServer,
    ValkeyAddress,
    postgres_server,
    temporary_root,
    valkey,
    valkey_server,
)
from scenarios import served
from scenarios.api import Api
from scenarios.running import Embedded, OverGrpc, Reference, Run
from servers import ServerProcess, running_server
from torana_server import Gateway

__all__ = ["postgres_server", "temporary_root", "valkey", "valkey_server"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Pools close soon after their test, so that PostgreSQL never runs out of connections."""
    folder = tmp_path_factory.mktemp("scenarios") / "data"
    with running_server("scenarios.served", folder, pool_idle_timeout_s=1) as server:
        yield server


@pytest.fixture(params=["embedded", "grpc"])
async def run(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Run]:
    if request.param == "embedded":
        async with embedded(tmp_path / "data") as run:
            yield run
    else:
        async with over_grpc(request.getfixturevalue("server")) as run:
            yield run


@contextlib.asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Run]:
    gateway = Gateway(data_dir=folder)
    served.register(gateway)
    async with gateway:
        yield Embedded(gateway)


@contextlib.asynccontextmanager
async def over_grpc(server: ServerProcess) -> AsyncIterator[Run]:
    async with torana.Client(server.address) as client:
        yield OverGrpc(client)


@pytest.fixture(scope="session")
def one_database(postgres_server: PostgresServer) -> PostgresDatabase:
    return postgres_server.database(template="blank")


@pytest.fixture
async def postgres(one_database: PostgresDatabase) -> PostgresDatabase:
    """The session's database, emptied: a new one for each test would take most of the tests' time."""
    connection: Any = await asyncpg.connect(one_database.url)
    await connection.execute("DROP OWNED BY CURRENT_USER CASCADE")
    await connection.close()
    return one_database


@pytest.fixture
async def database(run: Run, postgres: PostgresDatabase) -> Reference:
    await run.store_secret("database_login", {"user": postgres.user, "password": postgres.password})
    return database_reference(postgres)


@pytest.fixture
async def sql(postgres: PostgresDatabase) -> AsyncIterator[Any]:
    connection: Any = await asyncpg.connect(postgres.url)
    yield connection
    await connection.close()


@pytest.fixture
async def cache(run: Run, valkey: ValkeyAddress) -> Reference:
    await run.store_secret("cache_login", {"password": valkey.password})
    return cache_reference(valkey)


@pytest.fixture
async def keys(valkey: ValkeyAddress) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis(
        host=valkey.host, port=valkey.port, password=valkey.password, decode_responses=True
    ) as client:
        yield client


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    async with api.server:
        yield api


def database_reference(at: PostgresDatabase, credentials_ref: str = "database_login", **config: Any) -> Reference:
    settings = {"host": at.host, "port": at.port, "database": at.database, "max_size": 4, **config}
    return {"type": "database", "config": settings, "credentials_ref": credentials_ref}


def cache_reference(at: ValkeyAddress, **config: Any) -> Reference:
    settings = {"host": at.host, "port": at.port, "decode_responses": True, **config}
    return {"type": "cache", "config": settings, "credentials_ref": "cache_login"}
