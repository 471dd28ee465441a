"""Credentials are planted, used, refused and spilled; nothing that the server gives out or keeps may hold them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import torana
from integration.conftest import PostgresDatabase, ValkeyAddress, free_port
from integration.sweep import Sweep, forms
from servers import ServerProcess, running_server

USED, SPILLED, REFUSED, HANDED_ON = "use_well", "use_badly", "be_refused", "hand_on"
REFUSALS = {
    "database": "InvalidTextRepresentationError",
    "cache": "ResponseError",
    "http_client": "ClientResponseError",
}


def canary(name: str) -> str:
    """Long, unique, and different in every form it can be written in."""
    return f'{name} "{uuid.uuid4()}"/§\\&+?='


@dataclass
class World:
    """`planted` are the values to look for, by name; `secrets` what holds them; `references` what opens with them."""

    planted: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: dict[str, tuple[str, torana.ResourceReference]] = field(default_factory=dict)

    def plant(self, name: str, value: str = "") -> str:
        self.planted[name] = value or canary(name)
        return self.planted[name]

    def add(self, secret: str, value: dict[str, Any], reference: torana.ResourceReference) -> None:
        self.secrets[secret] = value
        self.references[secret] = (reference.type, reference)


async def echo(request: web.Request) -> web.Response:
    if request.path == "/refused":
        raise web.HTTPForbidden(reason="Forbidden", text=str(dict(request.headers)))
    return web.json_response(dict(request.headers))


@pytest.fixture
async def api() -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/{path:.*}", echo)
    async with TestServer(application) as server:
        yield f"http://127.0.0.1:{server.port}"


def add_databases(world: World, postgres: PostgresDatabase) -> None:
    world.plant("database password", postgres.password)
    reference = torana.database(
        host=postgres.host, port=postgres.port, database=postgres.database, min_size=0, credentials_ref="pg"
    )
    world.add("pg", {"user": postgres.user, "password": postgres.password}, reference)
    world.add("pg_dsn", {"dsn": postgres.url}, torana.database(min_size=0, credentials_ref="pg_dsn"))
    wrong = {"user": world.plant("database user"), "password": world.plant("wrong database password")}
    world.add("pg_wrong", wrong, torana.database(host=postgres.host, port=postgres.port, credentials_ref="pg_wrong"))
    nowhere = {"user": "nobody", "password": world.plant("password for no database")}
    world.add("pg_nowhere", nowhere, torana.database(host="127.0.0.1", port=free_port(), credentials_ref="pg_nowhere"))


def add_caches(world: World, valkey: ValkeyAddress) -> None:
    world.plant("cache password", valkey.password)
    world.add(
        "cache",
        {"password": valkey.password},
        torana.cache(host=valkey.host, port=valkey.port, credentials_ref="cache"),
    )
    wrong = {"password": world.plant("wrong cache password")}
    world.add("cache_wrong", wrong, torana.cache(host=valkey.host, port=valkey.port, credentials_ref="cache_wrong"))
    nowhere = {"username": "nobody", "password": world.plant("password for no cache")}
    world.add(
        "cache_nowhere", nowhere, torana.cache(host="127.0.0.1", port=free_port(), credentials_ref="cache_nowhere")
    )


def header_canary(world: World, name: str) -> str:
    """As headers can hold it."""
    return world.plant(name, f"{name.replace(' ', '-')}-{uuid.uuid4()}/+=&?")


def add_apis(world: World, api: str) -> None:
    def add(secret: str, value: dict[str, Any], key: str = "") -> None:
        reference = torana.http_client(base_url=api, credentials_ref=secret, credentials_key=key)
        world.add(secret, value, reference)

    add("api_token", {"token": header_canary(world, "api token")})
    add("api_key", {"api_key": header_canary(world, "api key"), "header": "X-Api-Key"})
    add("api_headers", {"headers": {"X-Team": header_canary(world, "nested header")}})
    add("api_login", {"username": header_canary(world, "api user"), "password": header_canary(world, "api password")})
    providers = {
        "stripe": {"token": header_canary(world, "nested token")},
        "sendgrid": header_canary(world, "other provider's token"),
    }
    add("api_providers", providers, key="stripe")


@pytest.fixture
def world(postgres: PostgresDatabase, valkey: ValkeyAddress, api: str) -> World:
    world = World()
    add_databases(world, postgres)
    add_caches(world, valkey)
    add_apis(world, api)
    return world


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with running_server("served.canaries", tmp_path / "data", log_level="DEBUG", pool_open_timeout_s=5) as server:
        yield server


async def run(client: torana.Client, sweep: Sweep, workflow: str, parameters: dict[str, Any], **options: Any) -> str:
    """Runs it to its end and keeps every event; the error type, or "" when it completed."""
    events = [event async for event in client.execute(workflow, parameters, **options)]
    for event in events:
        sweep.add("events", event, event.data, event.proto.SerializeToString())
    execution = await client.get_execution(events[0].execution)
    result = await client.execute_workflow(
        workflow, parameters, **options | {"idempotency_key": "again" + str(uuid.uuid4())}
    )
    sweep.add("GetExecution", execution)
    try:
        result.raise_for_status()
    except torana.WorkflowFailedError as error:
        sweep.add_error("errors", error)
    return execution.error.type if execution.error else ""


async def refused(sweep: Sweep, call: Awaitable[object]) -> None:
    with pytest.raises(torana.ToranaError) as error:
        await call
    sweep.add_error("errors", error.value)


async def send_bad_requests(client: torana.Client, sweep: Sweep, world: World) -> None:
    """Requests with credentials where none belong."""
    database, cache, token = (world.planted[name] for name in ("database password", "cache password", "api token"))
    for config in (
        {"password": database},
        {"host": "h", "server_settings": {"password": database}},
        {"host": database},
        {"port": database},
        {"host": f"postgresql://u:{quote(database)}@h"},
    ):
        reference = {"type": "database", "config": config}
        await refused(sweep, client.start_workflow(USED, {"kind": "database"}, resources={"thing": reference}))
    for config in (
        {"base_url": f"http://user:{quote(token)}@h"},
        {"base_url": f"http://h/?api_key={quote(token)}"},
        {"base_url": "http://h", "headers": {"Authorization": f"Bearer {token}"}},
        {"base_url": "http://h", "timeout": token},
        {"proxy": f"http://p:{quote(token)}@proxy"},
    ):
        reference = {"type": "http_client", "config": config}
        await refused(sweep, client.start_workflow(USED, {"kind": "api"}, resources={"thing": reference}))
    await refused(sweep, client.put_secret("not a name!", {"password": cache}))
    await refused(sweep, client.put_secret("too_large", {"password": cache + "x" * 70_000}))
    await refused(sweep, client.get_secret("no_such_secret"))


async def read_everything(client: torana.Client, sweep: Sweep, world: World) -> None:
    for name in ("list_executions", "list_resources", "list_secrets", "list_workflows", "list_resource_types"):
        sweep.add(name, *[item async for item in getattr(client, name)()])
    async for resource in client.list_resources():
        sweep.add("resources", await client.get_resource(resource.name), await client.check_resource(resource.name))
    for name in ("get_health", "get_stats", "get_info", "rotate_keys"):
        sweep.add(name, await getattr(client, name)())
    for secret in world.secrets:
        sweep.add("get_secret", await client.get_secret(secret))
        sweep.add("list_secret_versions", *[version async for version in client.list_secret_versions(secret)])
    async with client.watch_executions(cursor="0") as feed:
        ended = 0
        total = sum([execution.is_finished async for execution in client.list_executions()])
        while ended < total:
            event = await anext(feed)
            ended += event.is_terminal
            sweep.add("WatchExecutions", event, event.proto.SerializeToString())


def outcomes_of(secret: str, kind: str) -> tuple[str, str, str, str]:
    """The errors of the four workflows. A wrong login of a database or a cache opens nothing at all."""
    if secret.endswith(("_wrong", "_nowhere")):
        return ("RESOURCE_UNAVAILABLE",) * 4
    return ("", "SpilledError", REFUSALS[kind], "")


@pytest.mark.slow
async def test_planted_credentials_are_in_nothing_that_the_server_gives_out_or_keeps(
    server: ServerProcess, world: World, postgres: PostgresDatabase
) -> None:
    sweep, said = Sweep(), canary("no secret")
    async with torana.Client(server.address) as client:
        for name, value in world.secrets.items():
            sweep.add("PutSecret", await client.put_secret(name, value))
        await send_bad_requests(client, sweep, world)
        for secret, (kind, reference) in world.references.items():
            parameters, resources = {"kind": kind}, {"thing": reference}
            for workflow, expected in zip((USED, SPILLED, REFUSED, HANDED_ON), outcomes_of(secret, kind), strict=True):
                outcome = await run(client, sweep, workflow, parameters, resources=resources)
                assert outcome == expected, f"{workflow} with {secret}"
        assert await run(client, sweep, "control", {"text": said}, labels={"control": "planted"}) == "SpilledError"
        await read_everything(client, sweep, world)
    server.kill()  # what a checkpoint would have moved is in the WAL still
    sweep.add_files(server.data_dir)
    sweep.add("log", server.log.read_bytes())
    leaks = sweep.leaks(world.planted)
    assert not leaks, "\n".join(leaks)
    assert sweep.places(["what the attempt was given", "logins"]) >= {"events", "journal.db-wal"}
    assert sweep.places([said]) >= {"journal.db-wal", "log", "events", "GetExecution", "errors", "WatchExecutions"}


@pytest.mark.parametrize("form", forms("x"))
def test_the_sweep_finds_a_value_in_every_form(form: str) -> None:
    value = canary("planted")
    sweep = Sweep()
    sweep.add("somewhere", b"before " + forms(value)[form] + b" behind")
    assert any(found.startswith("it (") for found in sweep.leaks({"it": value}))


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("behind", range(3))
def test_the_sweep_finds_a_value_within_a_longer_one_that_is_encoded(before: int, behind: int) -> None:
    value = canary("planted")
    whole = "x" * before + value + "y" * behind
    for encoded in (
        base64.b64encode(whole.encode()),
        base64.urlsafe_b64encode(whole.encode()),
        json.dumps(json.loads(json.dumps(whole))).encode(),
        quote(whole).encode(),
    ):
        sweep = Sweep()
        sweep.add("somewhere", encoded)
        assert sweep.leaks({"it": value})
        assert sweep.leaks({"another": canary("other")}) == []
