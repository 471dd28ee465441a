from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from torana_server.core.errors import ResourceError
from torana_server.resources import ResourceReference, Resources, ResourceState
from unit.resources.world import ALICE, World, attempt

TOKEN = "canary-token-value"


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path_qs, "headers": dict(request.headers), "method": request.method})


def application(elsewhere: str = "") -> web.Application:
    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{elsewhere}/landed")

    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPForbidden

    app = web.Application()
    app.router.add_get("/redirect", redirect)
    app.router.add_get("/refuse", refuse)
    app.router.add_route("*", "/{path:.*}", echo)
    return app


@pytest.fixture
async def elsewhere() -> AsyncIterator[BaseTestServer]:
    async with TestServer(application()) as server:
        yield server


@pytest.fixture
async def api(elsewhere: BaseTestServer) -> AsyncIterator[BaseTestServer]:
    async with TestServer(application(str(elsewhere.make_url("")).rstrip("/"))) as server:
        yield server


@pytest.fixture
def world() -> World:
    world = World()
    world.secrets.put(ALICE, "login", {"token": TOKEN})
    return world


@pytest.fixture
async def resources(world: World) -> AsyncIterator[Resources]:
    resources = world.resources()
    yield resources
    await resources.close()


def address(server: BaseTestServer, path: str = "") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


async def client(resources: Resources, config: dict[str, object], credentials_ref: str = "login") -> Any:
    reference = ResourceReference("http_client", config, credentials_ref=credentials_ref)
    return await attempt(resources, {"api": reference}).get("api")


async def test_both_ways_of_asking_work_and_paths_go_below_the_base(resources: Resources, api: BaseTestServer) -> None:
    http = await client(resources, {"base_url": address(api, "/v1"), "headers": {"User-Agent": "gateway/1"}})
    response = await http.get("/orders?limit=100")
    answer = await response.json()
    assert answer["path"] == "/v1/orders?limit=100"
    assert answer["headers"]["User-Agent"] == "gateway/1"
    async with http.post("charge", json={"amount": 1}) as response:
        assert (await response.json())["method"] == "POST"


async def test_credentials_go_to_the_base_urls_host(resources: Resources, api: BaseTestServer) -> None:
    http = await client(resources, {"base_url": address(api)})
    answer = await (await http.get("/x")).json()
    assert answer["headers"]["Authorization"] == f"Bearer {TOKEN}"


async def test_credentials_go_to_no_other_host_asked_for_directly(
    resources: Resources, api: BaseTestServer, elsewhere: BaseTestServer
) -> None:
    http = await client(resources, {"base_url": address(api)})
    answer = await (await http.get(address(elsewhere, "/x"))).json()
    assert TOKEN not in str(answer)


async def test_credentials_do_not_follow_a_redirect_to_another_host(
    world: World, resources: Resources, api: BaseTestServer
) -> None:
    world.secrets.put(ALICE, "login", {"api_key": TOKEN, "header": "X-Api-Key", "headers": {"X-Team": TOKEN}})
    http = await client(resources, {"base_url": address(api)})
    answer = await (await http.get("/redirect")).json()
    assert answer["path"] == "/landed"
    assert TOKEN not in str(answer)


async def test_without_a_base_url_credentials_go_to_the_allowed_hosts_only(
    resources: Resources, api: BaseTestServer, elsewhere: BaseTestServer
) -> None:
    http = await client(resources, {"allowed_hosts": [f"127.0.0.1:{api.port}"]})
    assert (await (await http.get(address(api, "/x"))).json())["headers"]["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(await (await http.get(address(elsewhere, "/x"))).json())


async def test_errors_and_reprs_of_requests_do_not_show_credentials(resources: Resources, api: BaseTestServer) -> None:
    http = await client(resources, {"base_url": address(api)})
    response = await http.get("/refuse")
    with pytest.raises(aiohttp.ClientResponseError) as caught:
        response.raise_for_status()
    with pytest.raises(aiohttp.ContentTypeError) as unread:
        await (await http.get("/refuse")).json()
    errors = [text for error in (caught.value, unread.value) for text in (repr(error), str(error))]
    shown = [
        *errors,
        repr(http),
        repr(http._pool),
        repr(http._pool.session),
        repr(response),
        repr(response.request_info),
    ]
    assert not [text for text in shown if TOKEN in text]


async def test_a_relative_path_without_a_base_url_says_so(resources: Resources) -> None:
    http = await client(resources, {}, credentials_ref="")
    with pytest.raises(ValueError, match="has no base_url"):
        await http.get("/x")


async def test_no_cookie_of_one_execution_reaches_another(resources: Resources) -> None:
    async def set_cookie(request: web.Request) -> web.Response:
        response = web.json_response(dict(request.cookies))
        response.set_cookie("session", "1")
        return response

    app = web.Application()
    app.router.add_get("/", set_cookie)
    async with TestServer(app) as server:
        http = await client(resources, {"base_url": address(server)}, credentials_ref="")
        await (await http.get("/")).json()
        assert await (await http.get("/")).json() == {}


async def test_responses_left_unread_give_their_connections_back_when_the_step_ends(
    resources: Resources, api: BaseTestServer
) -> None:
    reference = ResourceReference("http_client", {"base_url": address(api), "connection_limit": 1, "timeout": 5})
    leases = attempt(resources, {"api": reference})
    http: Any = await leases.get("api")
    unread = await http.get("/x")
    await leases.release()
    assert unread.closed
    other: Any = await attempt(resources, {"api": reference}, step="next").get("api")
    assert (await other.get("/y")).status == 200
    with pytest.raises(ResourceError, match="has ended"):
        await http.get("/z")


async def test_an_api_that_does_not_answer_is_unhealthy_and_one_that_does_is_healthy(
    world: World, resources: Resources
) -> None:
    server = TestServer(application())
    await server.start_server()
    reference = ResourceReference("http_client", {"base_url": address(server)})
    world.registry.register("api", reference, tenant=ALICE.tenant)
    await attempt(resources, {"api": reference}).get("api")
    assert (await resources.check(ALICE, "api")).state is ResourceState.HEALTHY
    await server.close()
    assert (await resources.check(ALICE, "api")).state is ResourceState.UNHEALTHY


async def test_a_health_path_that_fails_is_unhealthy(world: World, resources: Resources) -> None:
    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/health", broken)
    async with TestServer(app) as server:
        reference = ResourceReference("http_client", {"base_url": address(server), "health_path": "/health"})
        world.registry.register("api", reference, tenant=ALICE.tenant)
        await attempt(resources, {"api": reference}).get("api")
        status = await resources.check(ALICE, "api")
        assert (status.state, status.last_error) == (ResourceState.UNHEALTHY, "ConnectionError: /health answered 503")
