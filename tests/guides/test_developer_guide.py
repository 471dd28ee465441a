"""The developer guide's components and usage patterns. docs/from-the-guides.md has every block and its test."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from guides.databases import Databases
from guides.neighbourhood import NameService, Site
from guides.reader import Reader
from guides.running import CACHE, cached, database, one_step, output, run, store, web
from torana_server import Gateway, WorkflowRequest

USERS = """
    CREATE TABLE users (id int, name text, status text);
    INSERT INTO users VALUES (1, 'ada', 'active'), (2, 'bob', 'left');
"""
USE_ALL_THREE = """
db, http, cache = [await get_resource(name) for name in ("db", "http", "cache")]
response = await http.get("/hello")
await cache.set("hello", (await response.json())["hello"])
return {"database": await db.fetchval("SELECT current_database()"), "user": await db.fetchval("SELECT current_user")}
"""
WHO_IS_CONNECTED = """
db = await get_resource(name)
return await db.fetchval("SELECT pg_backend_pid()")
"""


async def test_references_and_secrets_open_a_database_an_api_and_a_cache(
    reader: Reader, databases: Databases, cache: Redis, site: Site
) -> None:
    await databases.make("production")
    site.answer("GET /hello", {"hello": "world"})
    await reader.run("developer 1", "developer 2", "developer 3")
    gateway = reader["gateway"]
    assert (gateway.settings.title, gateway.settings.journal) == ("Production Gateway", "sqlite")
    resources = {"db": reader["db_ref"], "http": reader["http_ref"], "cache": reader["cache_ref"]}
    response = await run(gateway, one_step(reader, "all_three", USE_ALL_THREE), {}, resources)
    assert output(response, "step") == {"database": "production", "user": "dbuser"}
    assert await cache.get("hello") == "world"
    (received,) = site.received
    assert received.host == "api.example.com"
    assert received.headers["User-Agent"] == reader["http_ref"].config["headers"]["User-Agent"]
    assert received.headers["Authorization"] == "Bearer sk-1234567890"


async def test_a_registered_pipeline_runs_on_the_resources_of_its_request(
    reader: Reader, databases: Databases, cache: Redis, names: NameService
) -> None:
    await databases.make("users", USERS)
    await reader.run("developer 1", "developer 2", "developer 3", "developer 4")
    registered = reader["gateway"].workflows["data_pipeline"]
    assert sorted(registered.required_resources) == ["result_cache", "source_db"]
    assert await reader.run("developer 5") == "Loaded 2 users\n"
    assert await cached(cache, "user:1") == {"id": 1, "name": "ADA", "active": True}
    assert await cached(cache, "user:2") == {"id": 2, "name": "BOB", "active": False}
    assert 3_590 < await cache.ttl("user:1") <= 3_600
    assert {("db.example.com", 5432), ("cache.example.com", 6379)} <= set(names.asked)


async def test_a_pipeline_that_cannot_reach_its_database_says_so_in_its_response(
    reader: Reader, databases: Databases, cache: Redis
) -> None:
    await reader.run("developer 1", "developer 2", "developer 3", "developer 4")
    async with databases.open("postgres") as connection:
        await connection.execute("DROP DATABASE IF EXISTS users")
    printed = await reader.run("developer 5")
    assert printed.startswith("Error: ")
    assert '"users"' in printed
    assert reader["response"].error.reason == "RESOURCE_UNAVAILABLE"


async def test_what_one_request_opened_later_ones_share_by_its_name(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("app", "CREATE TABLE done (item text);")
    await store(gateway)
    reader["gateway"] = gateway
    await reader.run("developer 6")
    gateway.register_workflow("ask", one_step(reader, "ask", WHO_IS_CONNECTED))
    sessions = set()
    for request in (reader["request1"], reader["request2"]):
        asked = WorkflowRequest(resources=request.resources, parameters={"name": "shared_db"})
        sessions.add(output(await gateway.execute_workflow("ask", asked), "step"))
    assert len(sessions) == 1

    source = 'db = await get_resource("db"); await db.execute("INSERT INTO done VALUES ($1)", item)'
    gateway.register_workflow("insert", one_step(reader, "insert", source))
    await reader.run("developer 17")
    printed = await reader.run_text("developer 17", 'await run_batch(gateway, "insert", ["a", "b", "c"])')
    assert printed == "Processed 3/3 successfully\n"
    rows = await databases.rows("app", "SELECT item FROM done ORDER BY item")
    assert [row["item"] for row in rows] == ["a", "b", "c"]


async def test_one_step_uses_three_resources_side_by_side(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis, site: Site
) -> None:
    await databases.make("users", USERS)
    site.answer("GET /orders", [{"id": 7}])
    await store(gateway)
    await reader.run("developer 7")
    resources = {"user_db": database("users"), "order_api": web(credentials_ref="api_token"), "cache": CACHE}
    response = await run(gateway, reader["workflow"], {}, resources)
    assert output(response, "fetch_data") == {"user_count": 2, "order_count": 1}
    assert await cached(cache, "users:latest") == [{"id": 1, "name": "ada"}, {"id": 2, "name": "bob"}]
    assert await cached(cache, "orders:latest") == [{"id": 7}]
    assert 290 < await cache.ttl("orders:latest") <= 300
    assert [received.path for received in site.received] == ["/orders?limit=100"]


async def test_the_client_runs_a_workflow_on_a_gateway_elsewhere(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis, for_clients: NameService
) -> None:
    await databases.make("myapp")
    await store(gateway)
    source = """
        db, cache = await get_resource("db"), await get_resource("cache")
        await cache.set("processed", process_date)
        return {"user": await db.fetchval("SELECT current_user")}
    """
    workflow = one_step(reader, "data_pipeline", source, required_resources=["db", "cache"])
    gateway.register_workflow("data_pipeline", workflow)
    for_clients.lead(await gateway.serve("127.0.0.1:0"), ("gateway.example.com", 7233))
    printed = await reader.run("developer 8")
    assert printed == "Processed: {'step': {'user': 'dbuser'}}\n"
    assert await cache.get("processed") == "2024-01-15"


async def test_a_resource_is_as_well_as_its_own_check_says(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("main")
    reader["gateway"], reader["registry"] = gateway, gateway.resource_registry
    reader["config"] = {"host": "localhost", "database": "main", "user": "dbuser", "password": "secure_password"}
    printed = await reader.run("developer 9")
    assert printed.startswith("Gateway status: healthy\nResources: {")
    workflow = one_step(reader, "ask", WHO_IS_CONNECTED, required_resources=["main_db"])
    output(await run(gateway, workflow, {"name": "main_db"}), "step")
    assert (await gateway.health_check())["resources"]["main_db"]["status"] == "healthy"
    async with databases.open("postgres") as connection:
        await connection.execute("DROP DATABASE main WITH (FORCE)")
    health = await gateway.health_check()
    assert health["resources"]["main_db"]["status"] == "unhealthy"
    assert health["status"] == "degraded"


QUEUE = """
import redis.asyncio


class QueueClient:
    def __init__(self, broker, credentials):
        self._connection = redis.asyncio.Redis.from_url(broker)
        self._sender = credentials["user"]

    async def publish(self, queue, text):
        await self._connection.rpush(queue, f"{self._sender}: {text}")

    async def aclose(self):
        await self._connection.aclose()
"""


async def test_a_resolver_of_ones_own_adds_a_type_of_resource(
    reader: Reader, folder: Any, cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "my_queue.py").write_text(QUEUE)
    monkeypatch.syspath_prepend(str(folder))
    await reader.run("developer 10")
    source = 'queue = await get_resource("queue"); await queue.publish("orders", text)'
    workflow = one_step(reader, "publish", source)
    config = {"broker": "redis://localhost:6379", "queue_name": "orders"}
    reference = {"type": "message_queue", "config": config, "credentials_ref": "queue_login"}
    async with Gateway(resource_resolver=reader["CustomResourceResolver"], enable_durability=False) as gateway:
        await gateway.secret_manager.store_secret("queue_login", {"user": "ada"})
        output(await run(gateway, workflow, {"text": "one"}, {"queue": reference}), "step")
        output(await run(gateway, workflow, {"text": "two"}, {"queue": "@mq_orders"}), "step")
    assert await cache.lrange("orders", 0, -1) == ["ada: one", "ada: two"]


@pytest.mark.parametrize(("environment", "ttl"), [("production", 3_600), ("staging", 60)])
async def test_a_step_reads_the_context_of_its_request(
    reader: Reader, gateway: Gateway, environment: str, ttl: int
) -> None:
    await reader.run("developer 11")
    context = {"user": "data_engineer", "environment": environment}
    response = await run(gateway, reader["workflow"], context=context)
    assert output(response, "process") == {"processed_by": "data_engineer", "cache_ttl": ttl}
