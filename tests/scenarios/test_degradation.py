"""Graceful degradation: when the database is down or broken, what was cached answers, and the answer says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integration.conftest import PostgresDatabase, free_port
from scenarios.conftest import database_reference
from scenarios.running import Reference, Run


@pytest.fixture
async def resources(sql: Any, database: Reference, cache: Reference) -> dict[str, Reference]:
    await sql.execute("CREATE TABLE parts (part text PRIMARY KEY, stock int, shelf text)")
    await sql.execute("INSERT INTO parts VALUES ('bolt', 7, 'C3'), ('nut', 0, 'C4')")
    return {"store": database, "seen": cache}


@pytest.fixture(params=["nobody listens", "the table is gone"])
async def broken(
    request: pytest.FixtureRequest, resources: dict[str, Reference], sql: Any, postgres: PostgresDatabase
) -> dict[str, Reference]:
    """The same resources when the database does not work, and the kind of error that it then gives."""
    if request.param == "the table is gone":
        await sql.execute("DROP TABLE parts")
        return resources
    return {**resources, "store": {**resources["store"], "config": {"host": "127.0.0.1", "port": free_port()}}}


async def test_a_database_that_answers_gives_a_fresh_answer_that_is_remembered(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    outcome = await run("spare_part", {"part": "bolt"}, resources=resources)
    assert outcome.result["remember"] == {"part": "bolt", "stock": 7, "shelf": "C3", "fresh": True}
    assert json.loads(await keys.get("part:bolt")) == {"part": "bolt", "stock": 7}


async def test_a_broken_database_is_answered_for_by_the_cache_and_the_execution_completes(
    run: Run, broken: dict[str, Reference], keys: Any
) -> None:
    await keys.set("part:bolt", '{"part": "bolt", "stock": 8}')
    outcome = await run("spare_part", {"part": "bolt"}, resources=broken)
    assert outcome.status == "completed"
    assert outcome.result == {"recall": {"part": "bolt", "stock": 8, "fresh": False}}
    (failed,) = outcome.of("step_failed")
    assert (failed.step, failed.data["handled"]) == ("ask_store", True)
    kind = failed.data["error"].type
    assert kind in ("RESOURCE_UNAVAILABLE", "UndefinedTableError")
    assert outcome.lines("recall") == [f"the store does not answer ({kind}): the stock of bolt may be old"]


async def test_a_list_holds_what_can_be_said_and_names_the_rest(
    run: Run, broken: dict[str, Reference], keys: Any
) -> None:
    await keys.set("part:nut", '{"part": "nut", "stock": 2}')
    outcome = await run("spare_parts", {"parts": ["bolt", "nut"]}, resources=broken)
    assert outcome.status == "completed"
    listed = outcome.result["list"]
    assert listed["found"] == [{"part": "nut", "stock": 2, "fresh": False}]
    assert listed["unknown"] == ["bolt"]
    assert listed["trouble"] in (["ResourceError"], ["UndefinedTableError"])


async def test_with_neither_database_nor_memory_the_failure_names_both(run: Run, broken: dict[str, Reference]) -> None:
    outcome = await run("spare_part", {"part": "bolt"}, resources=broken)
    assert (outcome.status, outcome.error.step, outcome.error.type) == ("failed", "recall", "LookupError")
    assert "the store does not answer" in outcome.error.message
    assert "'bolt' was never seen before" in outcome.error.message


async def test_a_part_that_does_not_exist_is_a_failure_even_where_the_cache_knew_it(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    await keys.set("part:cog", '{"part": "cog", "stock": 1}')
    outcome = await run("spare_part", {"part": "cog"}, resources=resources)
    assert (outcome.status, outcome.error.message) == ("failed", "there is no part 'cog'")


async def test_a_wrong_password_is_not_shown_in_what_went_wrong(
    run: Run, resources: dict[str, Reference], postgres: PostgresDatabase
) -> None:
    await run.store_secret("stale_login", {"user": postgres.user, "password": "last-years-password"})
    stale = {**resources, "store": database_reference(postgres, "stale_login")}
    outcome = await run("spare_part", {"part": "bolt"}, resources=stale)
    assert outcome.status == "failed"
    assert outcome.of("step_failed", "ask_store")[0].data["error"].reason == "RESOURCE_UNAVAILABLE"
    assert "last-years-password" not in str(outcome)
