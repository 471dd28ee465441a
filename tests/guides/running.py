"""What the tests of both guides do over and over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from guides.databases import PASSWORD, READER
from guides.reader import Reader
from torana import Client, Event
from torana_server import Gateway, WorkflowRequest, WorkflowResponse

SECRETS: Mapping[str, Mapping[str, object]] = {
    "db_creds": {"user": "dbuser", "password": PASSWORD},
    "db_creds_readonly": {"user": READER, "password": PASSWORD},
    "api_token": {"token": "token-of-the-api"},
    "api_key": {"api_key": "key-of-the-api", "allowed_hosts": ["api.example.com"]},
}
"""What the guides name in `credentials_ref` and store in no block before."""


def database(name: str, host: str = "localhost") -> dict[str, object]:
    return {"type": "database", "config": {"host": host, "database": name}, "credentials_ref": "db_creds"}


def web(host: str = "api.example.com", credentials_ref: str = "") -> dict[str, object]:
    reference: dict[str, object] = {"type": "http_client", "config": {"base_url": f"https://{host}"}}
    return reference | ({"credentials_ref": credentials_ref} if credentials_ref else {})


CACHE: Mapping[str, object] = {"type": "cache", "config": {"host": "localhost", "port": 6379}}


async def store(gateway: Gateway, *names: str) -> None:
    for name in names or SECRETS:
        await gateway.secret_manager.store_secret(name, SECRETS[name])


def one_step(reader: Reader, name: str, source: str, **options: Any) -> Any:
    """A workflow of one step, `step`."""
    return reader["WorkflowBuilder"](name).add_async_code("step", source, **options).build()


async def cached(cache: Redis, key: str) -> Any:
    """The JSON under a key."""
    text = await cache.get(key)
    assert text is not None, f"the cache has no {key}"
    return json.loads(text)


async def run(
    gateway: Gateway,
    workflow: Any,
    parameters: Mapping[str, object] | None = None,
    resources: Mapping[str, Any] | None = None,
    context: Mapping[str, object] | None = None,
) -> WorkflowResponse:
    """Registers the workflow under its own name and runs it."""
    name = workflow.definition.name
    gateway.register_workflow(name, workflow)
    request = WorkflowRequest(parameters=parameters or {}, resources=resources or {}, context=context or {})
    return await gateway.execute_workflow(name, request)


def output(response: WorkflowResponse, step: str) -> Any:
    """The output of a step of an execution that completed."""
    assert response.status == "completed", response.error
    return response.result[step]


async def log_lines(gateway: Gateway, execution_id: str) -> list[str]:
    """What the steps of an execution logged by themselves."""
    return [event.data["message"] for event in await logged(gateway, execution_id) if not event.data["data"]]


async def logged(gateway: Gateway, execution_id: str) -> list[Event]:
    """The lines of an execution, those of debug mode too, as a client over gRPC sees them."""
    port = await gateway.serve("127.0.0.1:0")
    async with Client(f"127.0.0.1:{port}") as client, client.watch(execution_id) as events:
        return [event async for event in events if event.kind == "step_log"]


async def build_and_register(reader: Reader, block: str, name: str, variable: str) -> None:
    """The registration that a block leaves out, of the workflow that its first statement builds."""
    await reader.run_text(block, reader.statements(block)[0])
    reader["gateway"].register_workflow(name, reader[variable])
