"""The developer guide on errors, speed, tests and migration. docs/from-the-guides.md has every block and its test."""

from __future__ import annotations

import ast
import gc
import logging
from typing import Any

import pytest
from redis.asyncio import Redis

from guides.databases import PASSWORD, SERVERS_OWN, Databases
from guides.reader import Reader
from guides.running import CACHE, cached, database, log_lines, logged, one_step, output, run, store
from torana import Client
from torana_server import Gateway, InvalidRequestError, ResourceReference, WorkflowRequest, WorkflowResponse


async def test_each_kind_of_wrong_request_has_its_own_error(reader: Reader, gateway: Gateway) -> None:
    reader["gateway"], reader["request"] = gateway, WorkflowRequest()
    assert await reader.run("developer 12") == "Workflow not registered\n"

    gateway.register_workflow("pipeline", one_step(reader, "pipeline", "return 1", required_resources=["db"]))
    assert (await reader.run("developer 12")).startswith("Resource error: Resource")
    reader["request"] = WorkflowRequest(resources={"db": {"type": "databse"}})
    assert (await reader.run("developer 12")).startswith("Resource error: ")
    reader["request"] = WorkflowRequest(resources={"db": "@nobody"})
    assert (await reader.run("developer 12")).startswith("Resource error: Resource not registered: @nobody")

    reader["request"] = WorkflowRequest(timeout=-1)
    with pytest.raises(InvalidRequestError, match="timeout"):
        await reader.run("developer 12")


async def test_a_secret_that_is_not_there_is_an_error_of_its_own(reader: Reader, gateway: Gateway) -> None:
    reader["secret_manager"] = gateway.secret_manager
    assert await reader.run("developer 13") == "Secret not found, using defaults\n"
    await gateway.secret_manager.store_secret("missing_key", {"api_key": "found"})
    assert await reader.run("developer 13") == ""
    assert reader["secret"] == {"api_key": "found"}


async def test_a_failed_run_keeps_what_its_steps_had_done(reader: Reader, gateway: Gateway) -> None:
    builder = reader["WorkflowBuilder"]("risky_workflow")
    builder.add_async_code("first", "return {'rows': 3}").add_async_code("second", "raise RuntimeError('no luck')")
    gateway.register_workflow("risky_workflow", builder.build())
    reader["gateway"], reader["request"] = gateway, WorkflowRequest()
    said, completed = (await reader.run("developer 14")).splitlines()
    assert said.startswith("Workflow failed: ")
    assert "no luck" in said
    assert completed == "Completed steps: ['first']"


async def test_pools_have_the_sizes_that_their_references_say(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("app")
    await reader.run("developer 15")
    source = """
        db, http = await get_resource("db"), await get_resource("http")
        return {"size": db.size, "max": db.get_max_size(), "user": await db.fetchval("SELECT current_user")}
    """
    resources = {"db": reader["db_ref"], "http": reader["http_ref"]}
    result = output(await run(gateway, one_step(reader, "sizes", source), {}, resources), "step")
    assert result == {"size": 10, "max": 50, "user": SERVERS_OWN}
    async with Client(f"127.0.0.1:{await gateway.serve('127.0.0.1:0')}") as client:
        pools = {resource.type: resource.pool async for resource in client.list_resources()}
    assert pools["database"]["max_size"] == 50
    assert pools["http_client"]["max_size"] == 100


async def test_what_was_computed_once_comes_from_the_cache(reader: Reader, gateway: Gateway, cache: Redis) -> None:
    calls = []

    def expensive_operation(key: str) -> dict[str, str]:
        calls.append(key)
        return {"for": key}

    gateway.register_function("expensive_operation", expensive_operation)
    await reader.run("developer 16")
    for _ in range(2):
        response = await run(gateway, reader["workflow"], {"input_key": "k1"}, {"cache": CACHE})
        assert output(response, "process") == {"processed": {"for": "k1"}}
    assert output(response, "check_cache") == {"data": {"for": "k1"}, "cache_hit": True}
    assert calls == ["k1"]
    assert await cached(cache, "pipeline:k1") == {"for": "k1"}
    assert 3_590 < await cache.ttl("pipeline:k1") <= 3_600


async def test_the_secret_manager_with_a_cache_serves_a_gateway(
    reader: Reader, folder: object, databases: Databases
) -> None:
    await databases.make("app")
    await reader.run("developer 16")
    async with Gateway(secret_manager=reader["secret_manager"], enable_durability=False) as gateway:
        await store(gateway)
        source = 'return await (await get_resource("db")).fetchval("SELECT current_user")'
        response = await run(gateway, one_step(reader, "who", source), {}, {"db": database("app")})
        assert output(response, "step") == "dbuser"


ROWS_OF_A_MOCK = 'rows = await conn.fetch("SELECT 1")\n    result = {"rows": rows}'


async def test_a_unit_test_puts_a_mock_in_place_of_every_resource(reader: Reader) -> None:
    awaited = f'db = await get_resource("db")\nasync with await db.acquire() as conn:\n    {ROWS_OF_A_MOCK}'
    reader["workflow"] = one_step(reader, "test_pipeline", awaited, required_resources=["db"])
    reader["mock_ref"] = ResourceReference("database", {"host": "nowhere.example.com"})
    await reader.run("developer 18")
    await reader["test_data_pipeline"]()


async def test_a_unit_test_mocks_acquire_as_a_context_manager_with_a_magic_mock(reader: Reader) -> None:
    entered = f'db = await get_resource("db")\nasync with db.acquire() as conn:\n    {ROWS_OF_A_MOCK}'
    reader["workflow"] = one_step(reader, "test_pipeline", entered, required_resources=["db"])
    reader["mock_ref"] = ResourceReference("database", {"host": "nowhere.example.com"})
    await reader.run("developer 18", instead={"import AsyncMock": "import MagicMock", "AsyncMock()": "MagicMock()"})
    await reader["test_data_pipeline"]()


async def test_an_integration_test_runs_on_a_real_database(
    reader: Reader, gateway: Gateway, databases: Databases, request: pytest.FixtureRequest
) -> None:
    for marker in ("integration", "requires_postgres"):
        request.config.addinivalue_line("markers", f"{marker}: of the guide")
    await databases.make("test", "CREATE TABLE seen (who text);")
    source = """
        db = await get_resource("db")
        await db.execute("INSERT INTO seen VALUES (current_user)")
    """
    gateway.register_workflow("db_workflow", one_step(reader, "db_workflow", source, required_resources=["db"]))
    await reader.run("developer 19")
    async with databases.open("test") as connection:
        await reader["test_real_database_workflow"](gateway, connection)
    assert await databases.rows("test", "SELECT who FROM seen") == [{"who": SERVERS_OWN}]


async def test_resources_have_the_names_one_would_like(reader: Reader, gateway: Gateway, cache: Redis) -> None:
    names = [name for statement in reader.statements("developer 20") for name in ast.literal_eval(statement)]
    assert len(names) == 6
    workflow = one_step(reader, "names", "return sorted([name for name in names if await get_resource(name)])")
    response = await run(gateway, workflow, {"names": names}, dict.fromkeys(names, CACHE))
    assert output(response, "step") == sorted(names)


async def test_a_password_in_a_reference_is_refused_before_anything_runs(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("dbuser")
    await store(gateway)
    good, bad = (eval(statement, reader.names) for statement in reader.statements("developer 21"))
    source = 'return await (await get_resource("db")).fetchval("SELECT current_database()")'
    workflow = one_step(reader, "who", source)
    assert output(await run(gateway, workflow, {}, {"db": good}), "step") == "dbuser"
    with pytest.raises(InvalidRequestError) as caught:
        await run(gateway, workflow, {}, {"db": bad})
    assert [violation.path for violation in caught.value.violations] == [
        "resources.db.config.user",
        "resources.db.config.password",
    ]
    assert "password123" not in str(caught.value)


async def test_a_step_that_catches_a_resources_failure_answers_with_it(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("app")
    await store(gateway)
    workflow = reader.step("developer 22")
    good = await run(gateway, workflow, {"query": "SELECT 1 AS one"}, {"db": database("app")})
    assert output(good, "step") is None
    bad = await run(gateway, workflow, {"query": "SELECT * FROM nowhere"}, {"db": database("app")})
    message = 'relation "nowhere" does not exist'
    assert output(bad, "step") == {"error": message, "data": []}
    assert await log_lines(gateway, bad.execution_id) == [f"Database query failed: {message}"]


async def test_a_connection_is_back_in_the_pool_after_the_with_block(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("app")
    await store(gateway)
    workflow = (
        reader["WorkflowBuilder"]("released")
        .add_async_code("step", reader.text("developer 23"))
        .add_async_code("after", 'return (await get_resource("db")).freesize')
        .build()
    )
    response = await run(gateway, workflow, {"query": "SELECT 1 AS one"}, {"db": database("app")})
    assert output(response, "step") == [{"one": 1}]
    assert output(response, "after") == 1


async def test_a_step_measures_itself(reader: Reader, gateway: Gateway) -> None:
    async def process_data() -> dict[str, object]:
        return {"data": [1, 2, 3]}

    gateway.register_function("process_data", process_data)
    response = await run(gateway, await reader.framed("developer 24"))
    result = output(response, "monitored_step")
    assert (result["data"], result["metrics"]["record_count"]) == ([1, 2, 3], 3)
    (line,) = await log_lines(gateway, response.execution_id)
    assert line == f"Step completed in {result['metrics']['duration']:.2f}s"


async def test_a_workflow_gets_at_each_run_what_it_held_before(
    reader: Reader, databases: Databases, cache: Redis
) -> None:
    await databases.make("app")
    source = 'return [type(await get_resource(name)).__name__ for name in ("db", "cache")]'
    reader["create_workflow_with_hardcoded_resources"] = lambda: one_step(reader, "old", "return 1")
    reader["db_ref"] = ResourceReference("database", {"host": "localhost", "database": "app"})
    reader["cache_ref"] = ResourceReference("cache", {"host": "localhost"})
    references = {f'"{name}": ResourceReference(...)': f'"{name}": {name}_ref' for name in ("db", "cache")}
    register = 'gateway.register_workflow("pipeline", new_workflow)\nresponse ='
    reader["new_workflow"] = one_step(reader, "pipeline", source)
    await reader.run("developer 25", instead={**references, "response =": register})
    assert len(output(reader["response"], "step")) == 2


async def run_and_collect(gateway: Gateway, workflow: Any) -> WorkflowResponse:
    """Runs it and lets what it forgot be found."""
    response = await run(gateway, workflow)
    gc.collect()
    return response


async def test_a_step_may_connect_by_itself_or_be_given_its_pool(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    for name in ("user", "app"):
        await databases.make(name)
    await store(gateway)
    before, after = reader.statements("developer 26")
    await reader.run_text("developer 26", before)
    with pytest.warns(ResourceWarning, match="unclosed"):  # what it opens for itself, nobody closes
        response = await run_and_collect(gateway, reader["workflow"].build())
    assert output(response, "process") is None
    await reader.run_text("developer 26", after)
    response = await run(gateway, reader["workflow"].build(), {"query": "SELECT 1"}, {"db": database("app")})
    assert output(response, "process") is None
    (pool,) = await databases.rows("app", "SELECT usename FROM pg_stat_activity WHERE application_name = 'torana'")
    assert pool["usename"] == "dbuser"


async def test_debug_mode_records_what_went_into_a_step_and_what_came_out(
    reader: Reader, databases: Databases, caplog: pytest.LogCaptureFixture
) -> None:
    await databases.make("app")
    source = """
        user = await (await get_resource("db")).fetchval("SELECT current_user")
        return {"seen": seen, "user": user}
    """
    reader["workflow"] = one_step(reader, "pipeline", source)
    last = 'gateway.workflows["pipeline"].metadata'
    register = f'gateway.register_workflow("pipeline", workflow)\n{last}'
    await reader.run("developer 27", instead={last: register})
    gateway = reader["gateway"]
    await store(gateway)
    request = WorkflowRequest(parameters={"seen": 1}, resources={"db": database("app")})
    response = await gateway.execute_workflow("pipeline", request)
    assert output(response, "step") == {"seen": 1, "user": "dbuser"}
    given, returned = [event.data["data"] for event in await logged(gateway, response.execution_id)]
    assert given["inputs"] == {"seen": 1}
    assert returned["output"] == {"seen": 1, "user": "[redacted]"}
    debugged = {record.name for record in caplog.records if record.levelno == logging.DEBUG}
    assert debugged == {"torana.gateway", "torana.resources"}
    assert PASSWORD not in caplog.text
