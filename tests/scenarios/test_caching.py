"""Cache patterns: cache-aside, a TTL for each kind of entry, invalidation after a change, separate namespaces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from integration.conftest import ValkeyAddress
from scenarios.conftest import cache_reference
from scenarios.running import Reference, Run


@pytest.fixture
async def resources(sql: Any, database: Reference, cache: Reference) -> dict[str, Reference]:
    await sql.execute("CREATE TABLE timetables (line text PRIMARY KEY, times text[])")
    await sql.execute("INSERT INTO timetables VALUES ('12', '{06:10,06:40}'), ('N3', '{01:15}')")
    return {"depot": database, "recent": cache}


async def test_what_was_read_once_comes_from_the_cache_until_it_expires(
    run: Run, resources: dict[str, Reference], sql: Any, keys: Any
) -> None:
    first = await run("timetable", {"line": "12"}, resources=resources)
    await sql.execute("UPDATE timetables SET times = '{07:00}' WHERE line = '12'")
    second = await run("timetable", {"line": "12"}, resources=resources)
    assert first.result["read"] == {"times": ["06:10", "06:40"], "from": "database"}
    assert second.result["read"] == {"times": ["06:10", "06:40"], "from": "cache"}
    await keys.expire("web:timetable:12", 0)
    third = await run("timetable", {"line": "12"}, resources=resources)
    assert third.result["read"] == {"times": ["07:00"], "from": "database"}


async def test_each_kind_of_entry_has_its_own_time_to_live(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    for line in ("12", "N3"):
        await run("timetable", {"line": line}, resources=resources)
    assert 570 < await keys.ttl("web:timetable:12") <= 600
    assert 0 < await keys.ttl("web:timetable:N3") <= 30


async def test_a_change_forgets_every_copy_of_the_line_and_no_other(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    for workflow, line in (("timetable", "12"), ("spoken_timetable", "12"), ("timetable", "N3")):
        await run(workflow, {"line": line}, resources=resources)
    changed = await run("change_timetable", {"line": "12", "times": ["05:55"]}, resources=resources)
    assert changed.result["forget"] == {"forgotten": 2}
    assert await keys.keys() == ["web:timetable:N3"]
    read = await run("timetable", {"line": "12"}, resources=resources)
    assert read.result["read"] == {"times": ["05:55"], "from": "database"}


async def test_namespaces_by_prefix_and_by_database_number_never_meet(
    run: Run, resources: dict[str, Reference], keys: Any, valkey: ValkeyAddress
) -> None:
    await keys.set("web:timetable:12", json.dumps(["planted"]))
    planted = await run("timetable", {"line": "12"}, resources=resources)
    spoken = await run("spoken_timetable", {"line": "12"}, resources=resources)
    apart = {**resources, "recent": cache_reference(valkey, db=1)}
    elsewhere = await run("timetable", {"line": "12"}, resources=apart)
    assert planted.result["read"] == {"times": ["planted"], "from": "cache"}
    assert [spoken.result["read"]["from"], elsewhere.result["read"]["from"]] == ["database", "database"]


async def test_a_line_that_does_not_exist_fails_and_leaves_nothing_in_the_cache(
    run: Run, resources: dict[str, Reference], keys: Any
) -> None:
    for workflow in ("timetable", "change_timetable"):
        outcome = await run(workflow, {"line": "99", "times": []}, resources=resources)
        assert (outcome.error.type, outcome.error.message) == ("LookupError", "no bus has the number 99")
    assert await keys.keys() == []
