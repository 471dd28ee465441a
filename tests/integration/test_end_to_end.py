"""The main jobs, from a client in one process through a server in another to real databases and caches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest
import redis

import stores
import torana
from integration.conftest import PostgresDatabase, ValkeyAddress
from served.etl import BRANCHES
from servers import ServerProcess, running_server
from torana.v1 import execution_service_pb2, execution_service_pb2_grpc

pb: Any = execution_service_pb2  # its messages take dicts for messages, which the stubs do not say
PEOPLE = [
    (1, "ada lovelace", "ada@example.org", Decimal("10.10"), 1),
    (2, "grace hopper", "grace@example.com", Decimal("0.30"), 3),
    (3, "alan turing", "alan@example.org", Decimal("12345678901234567890.123456789"), 5),
    (4, "too old", "old@example.net", Decimal(1), 400),
]


@pytest.fixture(scope="module", params=stores.STORES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server("served.etl", tmp_path_factory.mktemp("etl") / "data", **stores.settings(request)) as server:
        yield server


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[torana.Client]:
    async with torana.Client(server.address) as client:
        yield client


@pytest.fixture
async def people(postgres: PostgresDatabase) -> PostgresDatabase:
    connection: Any = await asyncpg.connect(postgres.url)
    await connection.execute(
        "CREATE TABLE users (id int, name text, email text, balance numeric, created_at timestamptz)"
    )
    for number, name, email, balance, days in PEOPLE:
        created = datetime.now(UTC) - timedelta(days=days, hours=1)
        await connection.execute("INSERT INTO users VALUES ($1, $2, $3, $4, $5)", number, name, email, balance, created)
    await connection.close()
    return postgres


def resources(people: PostgresDatabase, valkey: ValkeyAddress) -> dict[str, torana.ResourceReference]:
    return {
        "source_db": torana.database(
            host=people.host, port=people.port, database=people.database, max_size=2, credentials_ref="people"
        ),
        "cache": torana.cache(host=valkey.host, port=valkey.port, credentials_ref="cache"),
    }


def secrets(people: PostgresDatabase, valkey: ValkeyAddress) -> dict[str, dict[str, str]]:
    return {"people": {"user": people.user, "password": people.password}, "cache": {"password": valkey.password}}


def run_blocking(
    server: ServerProcess, secrets: dict[str, dict[str, str]], resources: dict[str, torana.ResourceReference]
) -> tuple[list[torana.Event], torana.ExecutionResult]:
    with torana.BlockingClient(server.address) as client:
        for name, value in secrets.items():
            client.put_secret(name, value)
        with client.execute("user_etl", {"days": 7}, resources=resources) as stream:
            events = list(stream)
            return events, stream.result()


async def run_async(
    server: ServerProcess, secrets: dict[str, dict[str, str]], resources: dict[str, torana.ResourceReference]
) -> tuple[list[torana.Event], torana.ExecutionResult]:
    async with torana.Client(server.address) as client:
        for name, value in secrets.items():
            await client.put_secret(name, value)
        async with client.execute("user_etl", {"days": 7}, resources=resources) as stream:
            events = [event async for event in stream]
            return events, await stream.result()


@pytest.mark.parametrize("kind", ["asyncio", "blocking"])
async def test_the_guides_pipeline_goes_from_postgresql_to_valkey_with_secrets_from_the_vault(
    server: ServerProcess, people: PostgresDatabase, valkey: ValkeyAddress, kind: str
) -> None:
    given = secrets(people, valkey), resources(people, valkey)
    if kind == "asyncio":
        events, result = await run_async(server, *given)
    else:
        events, result = await asyncio.to_thread(run_blocking, server, *given)
    outputs = result.raise_for_status().result
    assert outputs["load"] == {"loaded": 3, "cache_keys": 4}
    rows = outputs["extract"]["users"]
    assert [(row["id"], row["name"], row["email"], row["balance"]) for row in rows] == [p[:4] for p in PEOPLE[:3]]
    assert all(isinstance(row["created_at"], datetime) and row["created_at"].tzinfo for row in rows)
    assert [event.data["message"] for event in events if event.kind == "step_progress"] == [p[1] for p in PEOPLE[:3]]
    with redis.Redis(host=valkey.host, port=valkey.port, password=valkey.password) as cache:
        assert json.loads(cache.get("user:3:profile")) == {
            "id": 3,
            "display_name": "Alan Turing",
            "email_domain": "example.org",
            "balance": "12345678901234567890.123456789",
            "days_active": 5,
        }
        summary = json.loads(cache.get("users:summary"))
        assert (summary["total_users"], summary["domains"]) == (3, ["example.com", "example.org"])


async def test_a_caller_with_nothing_but_the_stubs_writes_values_and_structs_by_hand(
    server: ServerProcess, people: PostgresDatabase, valkey: ValkeyAddress, client: torana.Client
) -> None:
    for name, value in secrets(people, valkey).items():
        await client.put_secret(name, value)
    database = {"host": people.host, "port": people.port, "database": people.database, "max_size": 2}
    request = {
        "workflow": "user_etl",
        "parameters": {"value": {"struct_value": {"days": 2.0}}},
        "resources": {
            "source_db": {"reference": {"type": "database", "config": database, "credentials_ref": "people"}},
            "cache": {
                "reference": {
                    "type": "cache",
                    "config": {"host": valkey.host, "port": valkey.port},
                    "credentials_ref": "cache",
                }
            },
        },
    }
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        events: list[Any] = []
        async for response in stub.Execute(pb.ExecuteRequest(request=request)):
            events += response.frame.batch.events
    outputs = {event.step: event.step_completed.output for event in events if event.HasField("step_completed")}
    assert events[-1].WhichOneof("kind") == "completed"
    extracted = json.loads(outputs["extract"].json)
    assert [(user["name"], user["balance"]) for user in extracted["users"]] == [("ada lovelace", "10.10")]
    assert outputs["extract"].types["/users/*/balance"] == "decimal"
    assert json.loads(outputs["load"].json) == {"loaded": 1, "cache_keys": 2}


async def test_independent_steps_run_at_the_same_time_and_their_successor_once(client: torana.Client) -> None:
    result = (await client.execute_workflow("fan_out")).raise_for_status()
    assert result.result["join"] == BRANCHES
    events = [event async for event in client.watch(result.execution_id)]
    assert sorted(e.step for e in events if e.kind == "step_completed") == sorted(
        ["join", *(f"branch_{number}" for number in range(BRANCHES))]
    )


@pytest.mark.parametrize(
    ("tier", "taken", "skipped", "report"),
    [
        ("gold", "express", "standard", {"express": 7, "standard": None}),
        ("tin", "standard", "express", {"express": None, "standard": -7}),
    ],
)
async def test_a_switch_takes_one_route_and_skips_the_other(
    client: torana.Client, tier: str, taken: str, skipped: str, report: dict[str, int | None]
) -> None:
    async with client.execute("routed", {"order": {"id": 7, "tier": tier}}) as stream:
        events = [event async for event in stream]
        result = (await stream.result()).raise_for_status().result
    assert result["report"] == report
    assert [event.step for event in events if event.kind == "step_skipped"] == [skipped]
    assert taken in result
    assert skipped not in result


async def test_an_error_route_gets_the_error_as_data_and_the_execution_completes(client: torana.Client) -> None:
    async with client.execute("caught", {"amount": 12}) as stream:
        events = [event async for event in stream]
        result = (await stream.result()).raise_for_status().result
    assert result == {"apologise": {"type": "ValueError", "message": "no charge of 12"}}
    assert {event.step: event.kind for event in events if event.step} == {
        "charge": "step_failed",
        "ship": "step_skipped",
        "apologise": "step_completed",
    }


VALUES: dict[str, Any] = {
    "integers": [0, -1, 2**53 + 1, 2**64, -(2**64) - 1, 10**300, -(10**300) + 7],
    "floats": [0.1, -0.0, 1e308, 5e-324],
    "text": ["", "naïve ☃ 𝄞", "\u0000\u2028", '"\\/'],
    "nothing": [None, True, False, {}, []],
    "datetime": datetime(2026, 1, 15, 12, 30, 45, 123456, tzinfo=UTC),
    "elsewhere": datetime(1999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    "naive": datetime(2026, 1, 15, 12, 30, 45),  # noqa: DTZ001 — values without an offset stay without one
    "date": date(2026, 2, 28),
    "time": time(23, 59, 59, 999999),
    "timedelta": timedelta(days=-3, microseconds=1),
    "decimals": [Decimal("1.10"), Decimal("-1E+400"), Decimal("0.00000000000000000000000000000001")],
    "uuid": UUID("0198c0de-0000-7000-8000-000000000000"),
    "bytes": bytes(range(256)),
    "tuple": (1, ("nested", Decimal("2.50"))),
    "set": {1, 2, 3},
    "deep": [[[{"a": [{"b": Decimal("3.0")}]}]]],
}


def written(value: object) -> str:
    """Tells 1 from 1.0, 1.1 from 1.10, and the order of keys from nothing."""
    return repr(value)


@pytest.mark.parametrize("name", VALUES)
async def test_values_come_back_exactly_as_they_were_sent(client: torana.Client, name: str) -> None:
    async with client.execute("typed", {"value": VALUES[name]}) as stream:
        events = [event async for event in stream]
        result = (await stream.result()).raise_for_status().result
    emitted = [event.data["value"] for event in events if event.kind == "step_emitted"]
    read = (await client.get_execution(events[0].execution)).result
    for value in (result["first"], result["second"], *emitted, *read.values()):
        assert written(value) == written(VALUES[name])


def test_blocking_callers_get_the_same_values(server: ServerProcess) -> None:
    with torana.BlockingClient(server.address) as client:
        result = client.execute_workflow("typed", {"value": VALUES}).raise_for_status().result
    assert written(result["second"]) == written(VALUES)


async def test_values_are_exact_after_a_restart(tmp_path: Path) -> None:
    with running_server("served.etl", tmp_path / "data") as server:
        async with torana.Client(server.address) as client:
            done = (await client.execute_workflow("typed", {"value": VALUES})).raise_for_status()
        server.restart()
        async with torana.Client(server.address) as client:
            assert written((await client.get_execution(done.execution_id)).result["second"]) == written(VALUES)
