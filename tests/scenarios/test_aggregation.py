"""API aggregation: endpoints asked at once, their answers forwarded to every later step, failures of some tolerated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from scenarios.api import Api, Asked
from scenarios.running import Reference, Run


@pytest.fixture
def tower(api: Api) -> Api:
    api.says("/weather", {"fog": False})
    api.says("/gates", [{"name": "A1", "open": True}, {"name": "A2", "open": False}])
    api.says("/delays", [5, 20])
    api.says("/staff", {"present": 12})
    return api


@pytest.fixture
async def resources(run: Run, tower: Api, cache: Reference) -> dict[str, Reference]:
    await run.store_secret("tower_key", {"token": "tower-token"})
    return {"tower": tower.reference("tower_key"), "screens": cache}


async def test_four_answers_become_one_board(run: Run, tower: Api, resources: dict[str, Reference], keys: Any) -> None:
    outcome = await run("morning_board", {}, resources=resources, context={"user": "kim"})
    board = {"advice": "up to 20 minutes late", "gates": ["A1"], "without": []}
    assert outcome.result["publish"] == board
    assert json.loads(await keys.get("board")) == board
    assert sorted(asked.path for asked in tower.asked) == ["/delays", "/gates", "/staff", "/weather"]
    assert {asked.headers["Authorization"] for asked in tower.asked} == {"Bearer tower-token"}
    assert {asked.headers["X-Asked-By"] for asked in tower.asked} == {"kim"}


async def test_an_endpoint_that_fails_and_one_that_talks_nonsense_are_left_out(
    run: Run, tower: Api, resources: dict[str, Reference]
) -> None:
    async def nonsense(_: Asked) -> web.Response:
        return web.Response(text="<html>good morning</html>", content_type="text/html")

    tower.says("/delays", {"error": "out of order"}, status=500)
    tower.on("/staff", nonsense)
    outcome = await run("morning_board", {}, resources=resources)
    assert outcome.status == "completed"
    assert outcome.result["publish"] == {"advice": "ask at the desk", "gates": ["A1"], "without": ["delays", "staff"]}
    assert sorted(outcome.lines("ask")) == [
        "delays is missing: ClientResponseError",
        "staff is missing: ContentTypeError",
    ]


async def test_no_answer_at_all_is_a_failure_and_the_old_board_stays(
    run: Run, tower: Api, resources: dict[str, Reference], keys: Any
) -> None:
    await keys.set("board", "yesterday's")
    for path in ("/weather", "/gates", "/delays", "/staff"):
        tower.says(path, {}, status=503)
    outcome = await run("morning_board", {}, resources=resources)
    assert (outcome.status, outcome.error.type) == ("failed", "ConnectionError")
    assert outcome.error.message == "no endpoint of the tower answered"
    assert await keys.get("board") == "yesterday's"
