"""Batches: bulk insert and fetch with progress; a failed batch leaves the others, and a retry goes on after them."""

from __future__ import annotations

from typing import Any

import pytest

from scenarios.running import Reference, Run

FORMS = [{"number": number, "parish": "hill" if number % 2 else "dale", "souls": number} for number in range(1, 11)]


@pytest.fixture
async def archive(sql: Any, database: Reference) -> Reference:
    await sql.execute("CREATE TABLE forms (number int PRIMARY KEY, parish text, souls int)")
    return database


async def numbers(sql: Any) -> list[int]:
    return [row["number"] for row in await sql.fetch("SELECT number FROM forms ORDER BY number")]


async def test_every_batch_is_written_and_reported(run: Run, sql: Any, archive: Reference) -> None:
    outcome = await run("census", {"forms": FORMS, "batch_size": 4}, resources={"archive": archive})
    assert outcome.result["look_up"] == {"dale": 30, "hill": 25}
    assert await numbers(sql) == list(range(1, 11))
    told = [(event.data["fraction"], event.data["message"]) for event in outcome.of("step_progress")]
    assert told == [(0.4, "4 of 10 forms"), (0.8, "8 of 10 forms"), (1.0, "10 of 10 forms")]
    assert outcome.of("step_progress")[0].data["data"] == {"parish": "dale"}


async def test_a_batch_with_a_double_is_undone_as_a_whole_and_those_before_it_stay(
    run: Run, sql: Any, archive: Reference
) -> None:
    await sql.execute("INSERT INTO forms VALUES (8, 'vale', 0)")
    outcome = await run("census", {"forms": FORMS, "batch_size": 3}, resources={"archive": archive})
    assert (outcome.status, outcome.error.step, outcome.error.type) == ("failed", "store", "UniqueViolationError")
    assert await numbers(sql) == [1, 2, 3, 4, 5, 6, 8]
    assert [event.data["value"] for event in outcome.of("step_checkpointed")] == [3, 6]


async def test_a_retry_goes_on_after_the_last_batch_that_was_written(run: Run, sql: Any, archive: Reference) -> None:
    """The database refuses form 8 once; the sequence keeps counting when the transaction is undone."""
    await sql.execute(
        """
        CREATE SEQUENCE tries;
        CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') = 1 THEN RAISE EXCEPTION 'the archive is being dusted'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER dusting BEFORE INSERT ON forms FOR EACH ROW WHEN (NEW.number = 8) EXECUTE FUNCTION refuse_once();
        """
    )
    outcome = await run("patient_census", {"forms": FORMS, "batch_size": 3}, resources={"archive": archive})
    assert outcome.status == "completed"
    assert outcome.result["store"]["stored"] == 4, "the second attempt wrote forms 7 to 10 alone"
    assert await numbers(sql) == list(range(1, 11))
    (retrying,) = outcome.of("step_retrying")
    assert retrying.data["error"].message == "the archive is being dusted"
