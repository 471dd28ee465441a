"""ETL: typed rows go from PostgreSQL through a function to Valkey, and a bad row stops the load."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from scenarios.running import Reference, Run

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def readings(sql: Any) -> Any:
    await sql.execute("CREATE TABLE readings (gauge text, level_cm int, taken_at timestamptz)")
    rows = [("pier", 120), ("pier", -35), ("lock", 80), ("lock", 95)]
    for hour, (gauge, level) in enumerate(rows):
        await sql.execute("INSERT INTO readings VALUES ($1, $2, $3)", gauge, level, MIDNIGHT + timedelta(hours=hour))
    await sql.execute("INSERT INTO readings VALUES ('pier', 900, $1)", MIDNIGHT - timedelta(days=1))
    return sql


async def test_rows_since_midnight_become_hashes_that_expire(
    run: Run, readings: Any, database: Reference, cache: Reference, keys: Any
) -> None:
    outcome = await run("tides", {"since": MIDNIGHT}, resources={"harbour": database, "board": cache})
    assert outcome.status == "completed"
    assert outcome.result["load"] == {"gauges": 2}
    assert outcome.result["transform"]["tides"]["pier"] == {"low_m": Decimal("-0.35"), "high_m": Decimal("1.2")}
    assert outcome.result["extract"]["readings"][0]["taken_at"] == MIDNIGHT + timedelta(hours=2)
    assert await keys.hgetall("tide:pier") == {"low_m": "-0.35", "high_m": "1.2"}
    assert 3_500 < await keys.ttl("tide:lock") <= 3_600
    assert [event.data["message"] for event in outcome.of("step_progress", "extract")] == ["4 readings"]


async def test_an_impossible_reading_fails_the_transform_and_nothing_is_loaded(
    run: Run, readings: Any, database: Reference, cache: Reference, keys: Any
) -> None:
    await readings.execute("INSERT INTO readings VALUES ('lock', 99999, $1)", MIDNIGHT)
    outcome = await run("tides", {"since": MIDNIGHT}, resources={"harbour": database, "board": cache})
    assert (outcome.status, outcome.error.step, outcome.error.type) == ("failed", "transform", "ValueError")
    assert outcome.error.message == "gauge lock reads 99999 cm, which is no tide"
    assert list(outcome.result) == ["extract"], "what was extracted is there to look at"
    assert await keys.keys() == []
