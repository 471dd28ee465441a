"""The embedding API over real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

import torana
from integration.conftest import PostgresDatabase, ValkeyAddress
from torana_server import (
    CacheFactory,
    DatabasePoolFactory,
    Gateway,
    HttpClientFactory,
    ResourceReference,
    WorkflowBuilder,
    WorkflowRequest,
)

TOKEN = "canary-token-value"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(enable_durability=False) as gateway:
        yield gateway


async def outcome(gateway: Gateway, source: str, resources: dict[str, Any], **parameters: object) -> Any:
    """The output of a step with that source, or the error it failed with."""
    gateway.register_workflow("one", WorkflowBuilder("one").add_async_code("step", source).build())
    response = await gateway.execute_workflow("one", WorkflowRequest(parameters=parameters, resources=resources))
    return response.result["step"] if response.is_success else response.error


# --- databases ------------------------------------------------------------------------------------------------------


def database_factory(postgres: PostgresDatabase, **settings: Any) -> DatabasePoolFactory:
    return DatabasePoolFactory(
        host=postgres.host,
        port=postgres.port,
        database=postgres.database,
        user=postgres.user,
        password=postgres.password,
        **settings,
    )


async def is_well(pool: Any) -> bool:
    async with pool.acquire() as connection:
        return bool(await connection.fetchval("SELECT 1") == 1)


async def test_a_registered_pool_factory_gives_steps_what_a_reference_gives(
    gateway: Gateway, postgres: PostgresDatabase
) -> None:
    await gateway.secret_manager.store_secret("login", {"user": postgres.user, "password": postgres.password})
    factory = database_factory(postgres, min_size=1, max_size=3)
    gateway.resource_registry.register_factory("main_db", factory, health_check=is_well)
    reference = {
        "type": "database",
        "config": {"host": postgres.host, "port": postgres.port, "database": postgres.database},
        "credentials_ref": "login",
    }
    source = """
        db = await get_resource("db")
        async with db.acquire() as connection:
            one = await connection.fetchval("SELECT 1")
        return [type(db).__name__, one, await db.fetchval("SELECT 2"), db.size >= 1, db.freesize >= 1]
    """
    shared = await outcome(gateway, source, {"db": "@main_db"})
    assert shared == await outcome(gateway, source, {"db": reference}) == ["Database", 1, 2, True, True]
    health = await gateway.health_check()
    assert health["status"] == "healthy"
    main = health["resources"]["main_db"]
    assert (main["status"], main["type"], main["pool"]["max_size"]) == ("healthy", "database", 3)


async def test_an_operators_check_of_a_pool_that_is_all_in_use_does_not_call_it_unwell(
    gateway: Gateway, postgres: PostgresDatabase
) -> None:
    gateway.resource_registry.register_factory("db", database_factory(postgres, max_size=1), health_check=is_well)
    gateway.register_function("health_check", gateway.health_check)
    source = """
        async with (await get_resource("db")).acquire():
            return (await health_check())["resources"]["db"]["status"]
    """
    assert await outcome(gateway, source, {"db": "@db"}) == "healthy"


async def test_a_wrong_password_of_a_factory_is_in_no_error(gateway: Gateway, postgres: PostgresDatabase) -> None:
    factory = DatabasePoolFactory(
        host=postgres.host, port=postgres.port, database=postgres.database, user=postgres.user, password=TOKEN
    )
    gateway.resource_registry.register_factory("db", factory)
    error = await outcome(gateway, "await get_resource('db')", {"db": "@db"})
    assert error.reason == "RESOURCE_UNAVAILABLE"
    assert TOKEN not in repr(error)


async def test_factories_work_without_a_gateway(
    postgres: PostgresDatabase, valkey: ValkeyAddress, api: BaseTestServer
) -> None:
    databases = database_factory(postgres)
    db = await databases.create()
    assert await db.fetchval("SELECT 1") == 1
    await databases.close(db)
    caches = CacheFactory(host=valkey.host, port=valkey.port, password=valkey.password, decode_responses=True)
    cache = await caches.create()
    assert await cache.set("a", "b")
    assert await cache.get("a") == "b"
    await caches.close(cache)
    clients = HttpClientFactory(base_url=address(api), token=TOKEN)
    client = await clients.create()
    assert (await (await client.get("/x")).json())["authorization"] == f"Bearer {TOKEN}"
    await clients.close(client)


async def test_a_database_elsewhere_gets_no_secret_that_is_bound_to_its_host(
    gateway: Gateway, postgres: PostgresDatabase
) -> None:
    login = {"user": postgres.user, "password": postgres.password}
    for name, hosts in (("here", ["127.0.0.1"]), ("there", ["db.example.com"])):
        await gateway.secret_manager.store_secret(name, {**login, "allowed_hosts": hosts})
    config = {"host": "127.0.0.1", "port": postgres.port, "database": postgres.database}
    source = "return await (await get_resource('db')).fetchval('SELECT 1')"
    assert await outcome(gateway, source, {"db": ResourceReference("database", config, "here")}) == 1
    error = await outcome(gateway, source, {"db": ResourceReference("database", config, "there")})
    assert error.reason == "CREDENTIALS_NOT_FOUND"
    assert "may go to db.example.com only" in error.message


# --- HTTP -----------------------------------------------------------------------------------------------------------


def application(elsewhere: str = "") -> web.Application:
    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{elsewhere}/landed")

    async def echo(request: web.Request) -> web.Response:
        key = request.headers.get("X-Api-Key", "")
        return web.json_response(
            {"path": request.path, "authorization": request.headers.get("Authorization", ""), "key": key}
        )

    app = web.Application()
    app.router.add_get("/redirect", redirect)
    app.router.add_get("/{path:.*}", echo)
    return app


@pytest.fixture
async def elsewhere() -> AsyncIterator[BaseTestServer]:
    async with TestServer(application()) as server:
        yield server


@pytest.fixture
async def api(elsewhere: BaseTestServer) -> AsyncIterator[BaseTestServer]:
    async with TestServer(application(address(elsewhere))) as server:
        yield server


def address(server: BaseTestServer) -> str:
    return f"http://127.0.0.1:{server.port}"


ASK = "return await (await (await get_resource('api')).get(url)).json()"


async def test_a_secret_that_names_its_hosts_needs_none_in_the_reference_and_leaks_to_no_other(
    gateway: Gateway, api: BaseTestServer, elsewhere: BaseTestServer
) -> None:
    secret = {"api_key": TOKEN, "header": "X-Api-Key", "allowed_hosts": [f"127.0.0.1:{api.port}"]}
    await gateway.secret_manager.store_secret("api_key", secret)
    resources = {"api": {"type": "http_client", "config": {"timeout": 10}, "credentials_ref": "api_key"}}
    there = await outcome(gateway, ASK, resources, url=f"{address(api)}/x")
    assert there == {"path": "/x", "authorization": "", "key": TOKEN}
    for url in (f"{address(elsewhere)}/x", f"{address(api)}/redirect"):
        assert (await outcome(gateway, ASK, resources, url=url))["key"] == ""


async def test_a_secret_that_names_its_hosts_is_refused_to_a_reference_that_names_others(
    gateway: Gateway, api: BaseTestServer, elsewhere: BaseTestServer
) -> None:
    secret = {"token": TOKEN, "allowed_hosts": [f"127.0.0.1:{api.port}"]}
    await gateway.secret_manager.store_secret("api_key", secret)
    for config in ({"base_url": address(elsewhere)}, {"allowed_hosts": [f"127.0.0.1:{elsewhere.port}"]}):
        reference = ResourceReference("http_client", config, "api_key")
        error = await outcome(gateway, ASK, {"api": reference}, url=f"{address(elsewhere)}/x")
        assert error.reason == "CREDENTIALS_NOT_FOUND"
        assert f"may go to {address(api)} only, and the reference names {address(elsewhere)}" in error.message


async def test_credentials_for_any_host_go_nowhere(gateway: Gateway, api: BaseTestServer) -> None:
    await gateway.secret_manager.store_secret("api_key", {"token": TOKEN})
    reference = ResourceReference("http_client", {"timeout": 10}, "api_key")
    error = await outcome(gateway, ASK, {"api": reference}, url=f"{address(api)}/x")
    assert error.reason == "CREDENTIALS_NOT_FOUND"
    assert "'allowed_hosts' in the secret" in error.message


async def test_the_hosts_of_a_secret_are_readable_in_logs_and_events(gateway: Gateway, api: BaseTestServer) -> None:
    await gateway.secret_manager.store_secret("api_key", {"token": TOKEN, "allowed_hosts": ["api.example.com"]})
    await gateway.secret_manager.get_secret("api_key")
    source = "logger.info('asking %s with %s', 'api.example.com', token)"
    gateway.register_workflow("log", WorkflowBuilder("log").add_async_code("step", source).build())
    request = WorkflowRequest(parameters={"token": TOKEN})
    lines = [
        event.data["message"] async for event in gateway.execute_stream("log", request) if event.kind == "step_log"
    ]
    assert len(lines) == 1
    assert lines[0].startswith("asking api.example.com with ")
    assert TOKEN not in lines[0]


async def test_a_secret_with_an_entry_a_provider_gives_each_api_its_own(gateway: Gateway, api: BaseTestServer) -> None:
    here = {"api_key": "of-here", "allowed_hosts": ["127.0.0.1", f"127.0.0.1:{api.port}"]}
    await gateway.secret_manager.store_secret("keys", {"here": here, "stripe": "of-stripe"})
    chosen = ResourceReference("http_client", {"base_url": address(api)}, "keys", credentials_key="here")
    assert (await outcome(gateway, ASK, {"api": chosen}, url="/x"))["authorization"] == "Bearer of-here"
    nobody = ResourceReference("http_client", {"base_url": address(api)}, "keys")
    error = await outcome(gateway, ASK, {"api": nobody}, url="/x")
    assert (error.reason, "its keys: here, stripe" in error.message) == ("CREDENTIALS_NOT_FOUND", True)


# --- callers over gRPC ----------------------------------------------------------------------------------------------


async def test_references_of_callers_over_grpc_are_not_shared_by_their_names(
    gateway: Gateway, api: BaseTestServer
) -> None:
    gateway.register_workflow("one", WorkflowBuilder("one").add_async_code("step", ASK).build())
    port = await gateway.serve("127.0.0.1:0")
    reference = torana.http_client(base_url=address(api))
    async with torana.Client(f"127.0.0.1:{port}") as client:
        first = await client.execute_workflow("one", {"url": "/x"}, resources={"api": reference})
        assert first.is_success
        with pytest.raises(torana.errors.ResourceNotFoundError):
            await client.execute_workflow("one", {"url": "/x"}, resources={"api": "@api"})
