"""Event batches with look-ups: each scan is completed from PostgreSQL and Valkey, and handed out at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scenarios.running import Reference, Run


@pytest.fixture
async def resources(sql: Any, keys: Any, database: Reference, cache: Reference) -> dict[str, Reference]:
    await sql.execute("CREATE TABLE members (badge text PRIMARY KEY, name text, patron bool)")
    await sql.execute("INSERT INTO members VALUES ('b1', 'Noor', true), ('b2', 'Ilse', false)")
    await keys.hset("wish:b2", mapping={"language": "nl"})
    return {"members": database, "wishes": cache}


async def test_members_are_admitted_and_strangers_are_listed(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    scans = [{"id": "s1", "badge": "b1"}, {"id": "s2", "badge": "nobody"}, {"id": "s3", "badge": "b2"}]
    outcome = await run("turnstile", {"scans": scans}, resources=resources)
    noor = {"name": "Noor", "door": "garden", "language": "en"}
    ilse = {"name": "Ilse", "door": "main", "language": "nl"}
    assert outcome.result["admit"] == {"admitted": [noor, ilse], "turned_away": ["nobody"]}
    assert outcome.result["note"] == 'turned away: ["nobody"]'
    assert [event.data["value"] for event in outcome.of("step_emitted")] == [noor, ilse]
    assert json.loads(await keys.get("visit:s3")) == ilse
    assert await keys.ttl("visit:s1") > 3_600 >= await keys.ttl("visit:s3") > 3_500
    assert await keys.exists("visit:s2") == 0


async def test_a_batch_that_comes_twice_is_processed_once_under_its_key(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    batch: dict[str, Any] = {"scans": [{"id": "s1", "badge": "b1"}]}
    first = await run("turnstile", batch, resources=resources, idempotency_key="turnstile-4-batch-17")
    await keys.delete("visit:s1")
    again = await run("turnstile", batch, resources=resources, idempotency_key="turnstile-4-batch-17")
    assert again.events == first.events
    assert again.result == first.result
    assert await keys.exists("visit:s1") == 0, "nothing ran the second time"


async def test_a_scan_without_a_badge_fails_before_anything_is_written(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    scans = [{"id": "s1", "badge": "b1"}, {"id": "s2"}]
    outcome = await run("turnstile", {"scans": scans}, resources=resources)
    assert (outcome.status, outcome.error.type, outcome.error.message) == ("failed", "KeyError", "'badge'")
    assert 'badges = [scan["badge"] for scan in scans]' in outcome.error.traceback
    assert await keys.keys("visit:*") == []
