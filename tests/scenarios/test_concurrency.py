"""Concurrency: a semaphore bounds what a step asks for at once, and a small pool serves many tasks in turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from integration.conftest import PostgresDatabase
from scenarios.api import Api, Asked
from scenarios.conftest import database_reference
from scenarios.running import Reference, Run

PICTURES = [f"p{number}" for number in range(12)]


class Studio:
    """Answers nobody before `at_once` requests are there, and remembers how many there ever were."""

    def __init__(self, at_once: int) -> None:
        self.busiest = 0
        self._busy = 0
        self._full = asyncio.Barrier(at_once)

    async def answer(self, asked: Asked) -> web.Response:
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            await self._full.wait()
        finally:
            self._busy -= 1
        picture = asked.body["picture"]
        return web.json_response({"picture": picture}, status=415 if picture.startswith("torn") else 200)


@pytest.fixture
async def gallery(run: Run, sql: Any, database: Reference, postgres: PostgresDatabase) -> Reference:
    await sql.execute("CREATE TABLE walls (picture text)")
    return database_reference(postgres, max_size=2)


@pytest.mark.parametrize("at_once", [1, 3, 12])
async def test_the_server_sees_exactly_as_many_at_once_as_the_semaphore_lets_through(
    run: Run, api: Api, sql: Any, gallery: Reference, at_once: int
) -> None:
    studio = Studio(at_once)
    api.on("/thumbnails", studio.answer)
    outcome = await run(
        "exhibition",
        {"pictures": PICTURES, "at_once": at_once},
        resources={"studio": api.reference(), "gallery": gallery},
    )
    assert studio.busiest == at_once
    assert [thumbnail["picture"] for thumbnail in outcome.result["draw"]["thumbnails"]] == PICTURES
    assert await sql.fetchval("SELECT count(*) FROM walls") == len(PICTURES)


async def test_twelve_tasks_share_two_connections_in_turn(run: Run, api: Api, gallery: Reference) -> None:
    api.on("/thumbnails", Studio(12).answer)
    parameters = {"pictures": PICTURES, "at_once": 12}
    outcome = await run("exhibition", parameters, resources={"studio": api.reference(), "gallery": gallery})
    assert outcome.result["hang_up"]["hung"] == 12
    assert outcome.result["hang_up"]["connections"] <= 2


async def test_a_client_with_two_connections_bounds_a_step_that_does_not(
    run: Run, api: Api, gallery: Reference
) -> None:
    studio = Studio(2)
    api.on("/thumbnails", studio.answer)
    narrow = {"studio": api.reference(connection_limit=2), "gallery": gallery}
    outcome = await run("exhibition", {"pictures": PICTURES, "at_once": 100}, resources=narrow)
    assert (outcome.status, studio.busiest) == ("completed", 2)


async def test_pictures_that_are_refused_are_listed_and_the_others_hung(
    run: Run, api: Api, sql: Any, gallery: Reference
) -> None:
    api.on("/thumbnails", Studio(2).answer)
    outcome = await run(
        "exhibition",
        {"pictures": ["p1", "torn-1", "p2", "torn-2"], "at_once": 2},
        resources={"studio": api.reference(), "gallery": gallery},
    )
    assert outcome.result["draw"]["refused"] == ["torn-1", "torn-2"]
    assert {row["picture"] for row in await sql.fetch("SELECT picture FROM walls")} == {"p1", "p2"}


async def test_a_step_that_hoards_connections_is_told_that_it_holds_them(
    run: Run, gallery: Reference, postgres: PostgresDatabase
) -> None:
    small = database_reference(postgres, min_size=2, max_size=2, acquire_timeout=0.1)
    outcome = await run("hoard", {}, resources={"gallery": small})
    assert (outcome.status, outcome.error.reason) == ("failed", "RESOURCE_POOL_EXHAUSTED")
    assert "all 2 connections of its pool are in use" in outcome.error.message
    assert outcome.error.message.count("step 'hoard' (attempt 1)") == 2
