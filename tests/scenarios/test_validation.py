"""Multi-step validation: each check decides whether the next one is asked, and one verdict comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scenarios.api import Api
from scenarios.running import Reference, Run


@pytest.fixture
async def resources(sql: Any, api: Api, database: Reference, cache: Reference) -> dict[str, Reference]:
    await sql.execute("CREATE TABLE freezers (name text PRIMARY KEY, free int)")
    await sql.execute("INSERT INTO freezers VALUES ('north', 10)")
    api.says("/approvals", {"approved": True, "reason": "consent is on file"})
    return {"freezers": database, "board": api.reference(), "desk": cache}


async def test_a_sample_that_passes_every_check_is_accepted(
    run: Run, api: Api, resources: dict[str, Reference], keys: Any
) -> None:
    outcome = await run("book_sample", {"study": "T7", "freezer": "north", "tubes": 10}, resources=resources)
    verdict = {"study": "T7", "accepted": True, "because": "consent is on file"}
    assert outcome.result["verdict"] == verdict
    assert json.loads(await keys.get("verdict:T7")) == verdict
    assert 290 < await keys.ttl("verdict:T7") <= 300
    assert [asked.body for asked in api.asked] == [{"study": "T7", "tubes": 10}]
    assert [event.step for event in outcome.of("step_skipped")] == ["full"]


async def test_without_space_the_board_is_not_asked(run: Run, api: Api, resources: dict[str, Reference]) -> None:
    outcome = await run("book_sample", {"study": "T8", "freezer": "north", "tubes": 11}, resources=resources)
    assert outcome.result["verdict"] == {"study": "T8", "accepted": False, "because": "north has place for 10"}
    assert api.asked == []
    assert [event.step for event in outcome.of("step_skipped")] == ["ethics"]


@pytest.mark.parametrize(
    ("wrong", "type", "message"),
    [
        ({"freezer": "south"}, "LookupError", "there is no freezer 'south'"),
        ({"tubes": 0}, "ValueError", "a sample has at least one tube, not 0"),
    ],
)
async def test_what_cannot_be_checked_gets_no_verdict(
    run: Run, resources: dict[str, Reference], keys: Any, wrong: dict[str, Any], type: str, message: str
) -> None:
    parameters = {"study": "T9", "freezer": "north", "tubes": 1, **wrong}
    outcome = await run("book_sample", parameters, resources=resources)
    assert outcome.status == "failed"
    assert (outcome.error.step, outcome.error.type, outcome.error.message) == ("shelf", type, message)
    assert await keys.keys() == []


async def test_a_board_that_refuses_to_answer_is_a_failure_not_a_refusal(
    run: Run, api: Api, resources: dict[str, Reference], keys: Any
) -> None:
    api.says("/approvals", {}, status=502)
    outcome = await run("book_sample", {"study": "T9", "freezer": "north", "tubes": 1}, resources=resources)
    assert (outcome.status, outcome.error.step, outcome.error.type) == ("failed", "ethics", "ClientResponseError")
    assert await keys.keys() == []
