"""Event sourcing: event and projection are one transaction, and of two writers who read the same version one wins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scenarios.running import Outcome, Reference, Run


@pytest.fixture
async def ledger(sql: Any, database: Reference) -> Reference:
    await sql.execute(
        """
        CREATE TABLE events (garage text, version int, kind text, plate text, PRIMARY KEY (garage, version));
        CREATE TABLE occupancy (garage text PRIMARY KEY, version int, inside int CHECK (inside BETWEEN 0 AND 3));
        """
    )
    return database


async def park(run: Run, ledger: Reference, version: int, kind: str, plate: str, **options: Any) -> Outcome:
    parameters = {"garage": "north", "expected_version": version, "kind": kind, "plate": plate}
    return await run("park", parameters, resources={"ledger": ledger}, **options)


async def occupancy(sql: Any) -> list[tuple[int, int]]:
    return [tuple(row) for row in await sql.fetch("SELECT version, inside FROM occupancy")]


async def versions(sql: Any) -> list[int]:
    return [row["version"] for row in await sql.fetch("SELECT version FROM events ORDER BY version")]


async def test_the_projection_says_what_the_events_say(run: Run, ledger: Reference, sql: Any) -> None:
    story = [("entered", "AB-1"), ("entered", "CD-2"), ("left", "AB-1")]
    for version, (kind, plate) in enumerate(story):
        outcome = await park(run, ledger, version, kind, plate)
        assert outcome.result["append"]["version"] == version + 1
    assert await occupancy(sql) == [(3, 1)]
    audit = await run("audit_garage", {"garage": "north"}, resources={"ledger": ledger})
    assert audit.result["replay"] == {"version": 3, "inside": 1, "plates": ["CD-2"]}


async def test_of_two_who_read_the_same_version_one_wins(run: Run, ledger: Reference, sql: Any) -> None:
    both = await asyncio.gather(park(run, ledger, 0, "entered", "AB-1"), park(run, ledger, 0, "entered", "CD-2"))
    won, lost = sorted(both, key=lambda outcome: outcome.status)
    assert (won.status, won.result["append"]) == ("completed", {"version": 1, "inside": 1})
    assert (lost.status, lost.error.type) == ("failed", "VersionConflictError")
    assert lost.error.message == "north is past version 0: read it again"
    assert (await versions(sql), await occupancy(sql)) == ([1], [(1, 1)])


async def test_an_event_that_its_projection_refuses_was_never_there(run: Run, ledger: Reference, sql: Any) -> None:
    """A fourth car does not fit, and nobody leaves an empty garage."""
    for version in range(3):
        await park(run, ledger, version, "entered", f"AB-{version}")
    full = await park(run, ledger, 3, "entered", "CD-2")
    assert (full.status, full.error.type) == ("failed", "CheckViolationError")
    assert (await versions(sql), await occupancy(sql)) == ([1, 2, 3], [(3, 3)])


@pytest.mark.parametrize("ahead", [1, 7])
async def test_a_writer_who_is_ahead_of_the_ledger_writes_nothing(
    run: Run, ledger: Reference, sql: Any, ahead: int
) -> None:
    await park(run, ledger, 0, "entered", "AB-1")
    outcome = await park(run, ledger, 1 + ahead, "entered", "CD-2")
    assert (outcome.error.type, outcome.error.message) == (
        "VersionConflictError",
        f"north has not reached version {1 + ahead}",
    )
    assert (await versions(sql), await occupancy(sql)) == ([1], [(1, 1)])


async def test_a_request_that_is_sent_twice_appends_once(run: Run, ledger: Reference, sql: Any) -> None:
    twice = [await park(run, ledger, 0, "entered", "AB-1", idempotency_key="barrier-3-ticket-9") for _ in range(2)]
    assert [outcome.result["append"]["version"] for outcome in twice] == [1, 1]
    assert await versions(sql) == [1]


async def test_an_event_of_no_known_kind_is_refused(run: Run, ledger: Reference, sql: Any) -> None:
    outcome = await park(run, ledger, 0, "vanished", "AB-1")
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "a car has entered or left, not 'vanished'")
    assert await versions(sql) == []
