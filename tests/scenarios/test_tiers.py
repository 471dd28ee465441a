"""Tiered caching: each tier answers what it knows and fills the tiers above it; memory belongs to one workflow."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from scenarios.running import Reference, Run


@pytest.fixture
def word() -> str:
    """One that no test before looked up: the memory of the server process outlives a test."""
    return f"word-{uuid.uuid4()}"


@pytest.fixture
async def resources(sql: Any, database: Reference, cache: Reference, word: str) -> dict[str, Reference]:
    await sql.execute("CREATE TABLE words (word text PRIMARY KEY, meaning text)")
    await sql.execute("INSERT INTO words VALUES ($1, 'a small boat')", word)
    return {"near": cache, "far": database}


async def look_up(run: Run, word: str, resources: dict[str, Reference], workflow: str = "explain") -> tuple[str, str]:
    outcome = await run(workflow, {"word": word}, resources=resources)
    assert outcome.status == "completed", outcome.error
    found = outcome.result["look_up"]
    return found["meaning"], found["from"]


async def test_the_second_look_up_needs_neither_database_nor_cache(
    run: Run, resources: dict[str, Reference], word: str, sql: Any, keys: Any
) -> None:
    assert await look_up(run, word, resources) == ("a small boat", "postgresql")
    await sql.execute("DROP TABLE words")
    await keys.delete(f"word:{word}")
    assert await look_up(run, word, resources) == ("a small boat", "memory")


async def test_a_look_up_fills_the_cache_for_everybody_and_the_memory_for_itself(
    run: Run, resources: dict[str, Reference], word: str, keys: Any
) -> None:
    assert await look_up(run, word, resources) == ("a small boat", "postgresql")
    assert await keys.get(f"word:{word}") == "a small boat"
    assert 3_500 < await keys.ttl(f"word:{word}") <= 3_600
    assert await look_up(run, word, resources, "crossword") == ("a small boat", "valkey")
    assert await look_up(run, word, resources, "crossword") == ("a small boat", "memory")


async def test_what_the_cache_knows_is_not_asked_of_the_database(
    run: Run, resources: dict[str, Reference], word: str, keys: Any
) -> None:
    await keys.set(f"word:{word}", "a light wind")
    assert await look_up(run, word, resources) == ("a light wind", "valkey")


async def test_a_word_that_is_missing_is_remembered_by_no_tier(
    run: Run, resources: dict[str, Reference], word: str, sql: Any, keys: Any
) -> None:
    await sql.execute("DELETE FROM words")
    outcome = await run("explain", {"word": word}, resources=resources)
    assert (outcome.error.type, outcome.error.message) == ("LookupError", f"nobody has explained {word!r}")
    assert await keys.keys() == []
    await sql.execute("INSERT INTO words VALUES ($1, 'found at last')", word)
    assert await look_up(run, word, resources) == ("found at last", "postgresql")
