"""Input validation: bad input fails with what to change, and text that looks like SQL is only text."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from scenarios.running import REFUSALS, Reference, Run

LOAN = {"card": "AB1234", "title": "The Odyssey", "days": 14, "today": date(2026, 5, 1)}
INJECTIONS = [
    "'; DROP TABLE books; --",
    "x' OR '1'='1",
    "The Odyssey' UNION SELECT 1 --",
    "$1; DELETE FROM loans",
]


@pytest.fixture
async def shelves(sql: Any, database: Reference) -> Reference:
    await sql.execute(
        """
        CREATE TABLE books (id int PRIMARY KEY, title text, lent bool DEFAULT false);
        CREATE TABLE loans (book int REFERENCES books, card text, due date, note text);
        INSERT INTO books VALUES (1, 'The Odyssey'), (2, 'Emma');
        """
    )
    return database


async def loans(sql: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await sql.fetch("SELECT book, card, due, note FROM loans")]


async def test_a_good_loan_is_written(run: Run, shelves: Reference, sql: Any) -> None:
    outcome = await run("lend_book", LOAN, resources={"shelves": shelves})
    assert outcome.result["lend"] == {"book": 1, "due": date(2026, 5, 15)}
    assert await loans(sql) == [(1, "AB1234", date(2026, 5, 15), "")]


@pytest.mark.parametrize(
    ("wrong", "type", "message"),
    [
        ({"card": "ab1"}, "ValueError", "card must be two capitals and four digits, such as AB1234, not 'ab1'"),
        ({"card": None}, "ValueError", "card must be two capitals and four digits, such as AB1234, not None"),
        ({"days": "14"}, "TypeError", "days must be a whole number, not '14'"),
        ({"days": True}, "TypeError", "days must be a whole number, not True"),
        ({"days": 29}, "ValueError", "days must be from 1 to 28, not 29"),
    ],
)
async def test_bad_input_fails_the_judge_with_what_to_change(
    run: Run, shelves: Reference, sql: Any, wrong: dict[str, Any], type: str, message: str
) -> None:
    outcome = await run("lend_book", {**LOAN, **wrong}, resources={"shelves": shelves})
    assert (outcome.status, outcome.error.step, outcome.error.type) == ("failed", "judge", type)
    assert outcome.error.message == message
    assert await loans(sql) == []


async def test_an_input_that_is_missing_is_named(run: Run, shelves: Reference) -> None:
    without = {name: value for name, value in LOAN.items() if name != "card"}
    outcome = await run("lend_book", without, resources={"shelves": shelves})
    assert (outcome.error.step, outcome.error.reason) == ("judge", "INPUT_NOT_FOUND")
    assert "'card'" in outcome.error.message


@pytest.mark.parametrize("text", INJECTIONS)
async def test_text_that_looks_like_sql_is_looked_up_and_stored_as_text(
    run: Run, shelves: Reference, sql: Any, text: str
) -> None:
    asked = await run("lend_book", {**LOAN, "title": text}, resources={"shelves": shelves})
    assert (asked.error.type, asked.error.message) == ("LookupError", f"no copy of {text!r} is on the shelf")
    noted = await run("lend_book", {**LOAN, "note": text}, resources={"shelves": shelves})
    assert noted.status == "completed"
    assert await loans(sql) == [(1, "AB1234", date(2026, 5, 15), text)]
    assert await sql.fetchval("SELECT count(*) FROM books") == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"resources": {}}, "RESOURCE_NOT_BOUND"),
        ({"resources": {"shelves": "@nobody_registered_it"}}, "RESOURCE_NOT_FOUND"),
        ({"resources": {"shelves": {"type": "database", "config": {"prot": 1}}}}, "INVALID_REQUEST"),
        ({"timeout": -1.0}, "INVALID_REQUEST"),
    ],
)
async def test_a_request_that_cannot_be_right_is_refused_before_anything_runs(
    run: Run, shelves: Reference, sql: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(REFUSALS) as refusal:
        await run("lend_book", LOAN, **{"resources": {"shelves": shelves}, **options})
    assert refusal.value.reason == reason
    assert await loans(sql) == []
