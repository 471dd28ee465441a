"""Read replica and primary: two databases, two logins; what reads cannot write, whatever its step tries."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from integration.conftest import PostgresDatabase, PostgresServer
from scenarios.conftest import database_reference
from scenarios.running import Reference, Run

SIGHTINGS = [("wren", 3), ("wren", 4), ("heron", 1), ("crane", 0)]
READER = {"user": "bird_reader", "password": "only-looks"}


async def rows(at: PostgresDatabase, query: str) -> list[tuple[Any, ...]]:
    connection: Any = await asyncpg.connect(at.url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def reader(postgres_server: PostgresServer) -> None:
    postgres_server.execute(f"CREATE ROLE {READER['user']} LOGIN PASSWORD '{READER['password']}'")


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresDatabase:
    """The primary, with which nobody was connected before: PostgreSQL copies no other."""
    return postgres_server.database(template="blank")


@pytest.fixture
async def replica(reader: None, postgres_server: PostgresServer, postgres: PostgresDatabase) -> PostgresDatabase:
    """A copy of the primary, as it is once the replica has caught up."""
    primary: Any = await asyncpg.connect(postgres.url)
    await primary.execute(
        f"""
        CREATE TABLE sightings (species text, birds int);
        CREATE TABLE summaries (species text PRIMARY KEY, birds int);
        GRANT SELECT ON sightings, summaries TO {READER["user"]};
        """
    )
    await primary.executemany("INSERT INTO sightings VALUES ($1, $2)", SIGHTINGS)
    await primary.close()
    return await asyncio.to_thread(postgres_server.database, postgres.database)


@pytest.fixture
async def resources(run: Run, replica: PostgresDatabase, database: Reference) -> dict[str, Reference]:
    await run.store_secret("reader_login", READER)
    return {"replica": database_reference(replica, "reader_login"), "primary": database}


async def test_the_replica_is_read_and_the_primary_written(
    run: Run, resources: dict[str, Reference], postgres: PostgresDatabase, replica: PostgresDatabase
) -> None:
    outcome = await run("bird_count", {}, resources=resources)
    assert outcome.result == {"count": {"birds": {"wren": 7, "heron": 1, "crane": 0}}, "summarise": 3}
    summary = "SELECT species, birds FROM summaries ORDER BY species"
    assert await rows(postgres, summary) == [("crane", 0), ("heron", 1), ("wren", 7)]
    assert await rows(replica, summary) == []


async def test_a_write_through_the_replica_is_refused_by_the_database(
    run: Run, resources: dict[str, Reference], replica: PostgresDatabase
) -> None:
    outcome = await run("tidy_bird_count", {}, resources={"replica": resources["replica"]})
    assert (outcome.status, outcome.error.type) == ("failed", "InsufficientPrivilegeError")
    assert await rows(replica, "SELECT count(*) FROM sightings") == [(len(SIGHTINGS),)]


async def test_the_reader_of_the_replica_cannot_be_sent_to_write_the_summary(
    run: Run, resources: dict[str, Reference], postgres: PostgresDatabase
) -> None:
    crossed = {"replica": resources["replica"], "primary": resources["replica"]}
    outcome = await run("bird_count", {}, resources=crossed)
    assert (outcome.error.step, outcome.error.type) == ("summarise", "InsufficientPrivilegeError")
    assert list(outcome.result) == ["count"]
    assert await rows(postgres, "SELECT count(*) FROM summaries") == [(0,)]
