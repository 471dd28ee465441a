from __future__ import annotations

import asyncio

import aiohttp
import pytest

from torana_server.testing import FakeHttpApi, HttpRequest, Reply, virtual_time


async def test_a_path_with_braces_is_answered_by_a_function_of_its_parts() -> None:
    async with FakeHttpApi() as api:
        api.answers("GET", "/users/{id}/orders", lambda request, id: {"user": id, "page": request.query["page"]})
        client = await api.create()
        async with client.get("/users/7/orders", params={"page": "2"}) as response:
            assert await response.json() == {"user": "7", "page": "2"}


async def test_it_is_a_real_server_that_any_client_can_reach() -> None:
    async with FakeHttpApi() as api, aiohttp.ClientSession() as session:
        api.answers("POST", "/echo", lambda request: {"got": request.json, "agent": request.headers["X-Agent"]})
        async with session.post(f"{api.base_url}/echo", json=[1], headers={"X-Agent": "test"}) as response:
            assert await response.json() == {"got": [1], "agent": "test"}


async def test_every_request_is_remembered() -> None:
    async with FakeHttpApi() as api:
        api.answers("PUT", "/things/{id}", None)
        client = await api.create()
        await client.put("/things/1", data="one")
        await client.put("/things/2?dry=1", json={"two": 2})
        first, second = api.asked("PUT", "/things/{id}")
        assert (first.text, second.json, second.query, str(second)) == (
            "one",
            {"two": 2},
            {"dry": "1"},
            "PUT /things/2",
        )
        assert api.asked("PUT", "/things/2") == [second]


async def test_failures_come_first_and_then_the_answer() -> None:
    async with FakeHttpApi() as api:
        api.answers("GET", "/x", {"ok": True}).fails("GET", "/x", 429, times=2)
        client = await api.create()
        assert [(await client.get("/x")).status for _ in range(3)] == [429, 429, 200]


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ({"a": 1}, 200, '{"a": 1}'),
        (None, 200, "null"),
        ("plain", 200, "plain"),
        (b"bytes", 200, "bytes"),
        (Reply(status=204), 204, ""),
        (Reply(status=418, json=[1], headers={"X-Tea": "yes"}), 418, "[1]"),
        (ValueError("broken"), 500, "ValueError: broken"),
    ],
)
async def test_an_answer_is_json_text_a_reply_or_an_error(answer: object, status: int, text: str) -> None:
    async with FakeHttpApi() as api:
        client = await api.answers("GET", "/", answer).create()
        async with client.get("/") as response:
            assert (response.status, await response.text()) == (status, text)


async def test_a_function_may_be_async() -> None:
    async def answer(request: HttpRequest) -> object:
        await asyncio.sleep(0)
        return request.method

    async with FakeHttpApi() as api:
        client = await api.answers("GET", "/", answer).create()
        async with client.get("/") as response:
            assert await response.text() == "GET"


async def test_a_path_it_was_told_nothing_about_is_a_404_that_lists_what_it_knows() -> None:
    async with FakeHttpApi() as api:
        client = await api.answers("GET", "/known", 1).create()
        async with client.post("/known") as response:
            assert response.status == 404
            assert await response.text() == "the fake API knows nothing about POST /known; it knows:\n  GET /known"
        assert [str(request) for request in api.unknown] == ["POST /known"]


async def test_a_slow_answer_takes_virtual_time_and_a_client_gives_up_in_it() -> None:
    async with virtual_time() as clock, FakeHttpApi() as api:
        api.answers("GET", "/slow", Reply(json=1, after_s=20)).answers("GET", "/slower", Reply(json=1, after_s=31))
        client = await api.create()
        async with client.get("/slow") as response:
            assert await response.json() == 1
        assert clock.elapsed_s == pytest.approx(20)
        with pytest.raises(TimeoutError):
            await client.get("/slower")


async def test_a_connection_can_be_dropped_without_an_answer() -> None:
    async with FakeHttpApi() as api:
        client = await api.answers("GET", "/", Reply(drop=True)).create()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("/")


async def test_it_has_no_address_before_its_start_and_after_its_end() -> None:
    api = FakeHttpApi()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no address before it has started"):
            _ = api.base_url
        async with api:
            assert api.base_url.startswith("http://127.0.0.1:")


def test_a_path_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="begins with '/'"):
        FakeHttpApi().answers("GET", "users", 1)
