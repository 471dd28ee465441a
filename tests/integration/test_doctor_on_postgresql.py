"""What the doctor finds at a PostgreSQL that has journal and vault."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from integration.conftest import POSTGRES_PASSWORD, PostgresDatabase, PostgresServer, free_port
from torana_server import Gateway, Settings
from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.inspection import DatabaseReport, inspect_database
from torana_server.doctor import Finding, Grade, Surroundings, database, examine
from torana_server.settings import load_settings

KEYS = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER_KEYS = "other:HxwdHhsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="


def findings(ahead_s: float = 0, **settings: object) -> dict[str, Finding]:
    around = Surroundings(lambda _: None, lambda: datetime.now(UTC) + timedelta(seconds=ahead_s))
    given = {"address": "127.0.0.1:0", "vault_keys": KEYS, **settings}
    found = {one.check: one for one in examine(lambda: load_settings(given), around)}
    assert POSTGRES_PASSWORD not in str(found)
    return found


def used(postgres: PostgresDatabase, **settings: object) -> None:
    """By a server with a secret."""

    async def use() -> None:
        async with Gateway(settings=Settings(journal=postgres.url, vault_keys=KEYS, **settings)) as gateway:
            await gateway.secret_manager.store_secret("db", {"password": "x"})

    asyncio.run(use())


@pytest.fixture
def report(postgres: PostgresDatabase) -> DatabaseReport:
    return asyncio.run(inspect_database(Place(postgres.url, "torana"), lambda: datetime.now(UTC)))


def test_a_database_that_is_empty_yet_is_in_order(postgres: PostgresDatabase) -> None:
    found = findings(journal=postgres.url)
    assert found["database"].found.startswith("PostgreSQL ")
    assert found["journal"].found == "no tables in schema torana yet; the first start makes them"
    checks = ("database", "journal", "connections", "database clock", "vault key")
    assert {found[check].grade for check in checks} == {Grade.OK}
    assert "data folder" not in found


def test_what_the_tables_hold_and_whether_the_key_fits(postgres: PostgresDatabase) -> None:
    used(postgres)
    found = findings(journal=postgres.url)
    assert found["servers"].found == "0 servers at work, 0 executions running or waiting"
    assert found["vault"].found == "the key fits; 1 secret"
    other = findings(journal=postgres.url, vault_keys=OTHER_KEYS)
    assert other["vault"].grade is Grade.PROBLEM


def test_the_doctor_changes_nothing(postgres: PostgresDatabase) -> None:
    findings(journal=postgres.url)
    assert findings(journal=postgres.url)["journal"].found.startswith("no tables")


def test_a_vault_without_a_given_key_is_a_problem(postgres: PostgresDatabase) -> None:
    found = findings(journal=postgres.url, vault_keys=None)
    assert found["vault key"].grade is Grade.PROBLEM
    assert "servers that share a vault" in found["vault key"].found


def test_a_database_that_cannot_be_reached_is_a_problem_that_says_why(postgres: PostgresDatabase) -> None:
    found = findings(journal=replace(postgres, port=free_port()).url)
    assert found["database"].grade is Grade.PROBLEM
    assert "nothing listens there" in found["database"].found


def test_a_user_who_may_not_make_the_schema_is_a_problem(
    postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    postgres_server.execute(f"ALTER DATABASE {postgres.database} OWNER TO postgres")
    found = findings(journal=postgres.url)
    assert found["journal"].grade is Grade.PROBLEM
    assert "CREATE SCHEMA torana AUTHORIZATION" in found["journal"].advice


def test_clocks_that_differ_are_a_warning(postgres: PostgresDatabase) -> None:
    found = findings(ahead_s=60, journal=postgres.url)
    assert found["database clock"].grade is Grade.WARNING
    assert "-60.0 s" in found["database clock"].found


def test_fsync_that_is_off_is_a_problem(report: DatabaseReport) -> None:
    assert database.durability(report).grade is Grade.PROBLEM  # as the tests' cluster has it
    honest = replace(report, fsync=True)
    assert database.durability(honest).grade is Grade.WARNING
    honest = replace(honest, full_page_writes=True)
    assert "may lose the newest commits" in database.durability(honest).advice
    assert "standby_a" in database.durability(replace(honest, synchronous_standbys="standby_a")).found


@pytest.mark.parametrize(
    ("change", "grade", "said"),
    [
        ({"release_major": 13}, Grade.PROBLEM, "too old"),
        ({"standby": True}, Grade.PROBLEM, "only reads"),
        ({"pooled": True}, Grade.OK, "pools transactions"),
    ],
)
def test_a_database_of_the_wrong_kind_is_told(
    report: DatabaseReport, change: dict[str, object], grade: Grade, said: str
) -> None:
    found = database.release(replace(report, **change), "h/d")  # type: ignore[arg-type] # by name, each of its type
    assert (found.grade, said in found.found) == (grade, True)


def test_too_few_connections_are_a_warning(report: DatabaseReport) -> None:
    assert database.connections(replace(report, connections_left=14), 15).grade is Grade.WARNING
    assert database.connections(replace(report, connections_left=15), 15).grade is Grade.OK


def test_tables_of_a_newer_release_are_a_problem(report: DatabaseReport) -> None:
    assert database.tables(replace(report, version=report.known_version + 1), "torana").grade is Grade.PROBLEM
