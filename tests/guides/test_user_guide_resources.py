"""The user guide's resource patterns and security practices. docs/from-the-guides.md has every block and its test."""

from __future__ import annotations

import json

import pytest
from redis.asyncio import Redis

from guides.databases import Databases
from guides.neighbourhood import NameService, Site
from guides.reader import Reader
from guides.running import SECRETS, database, output, run, store
from torana_server import Gateway


async def test_reads_go_to_the_replica_under_its_own_login_and_writes_to_the_primary(
    reader: Reader, gateway: Gateway, databases: Databases, names: NameService
) -> None:
    await databases.make(
        "app",
        """
        CREATE TABLE transactions (category text, amount int, created_at timestamp DEFAULT now());
        CREATE TABLE summaries (date date, data text);
        INSERT INTO transactions VALUES ('tea', 3), ('tea', 4);
        INSERT INTO transactions VALUES ('old', 9, now() - interval '60 days');
        GRANT SELECT ON transactions TO app_reader;
        """,
    )
    await store(gateway)
    workflow = await reader.framed("user 7")
    resources = {"read_db": reader["read_db"], "write_db": reader["db_resource"]}
    output(await run(gateway, workflow, {}, resources), "read_heavy_operation")
    (summary,) = await databases.rows("app", "SELECT data FROM summaries WHERE date = CURRENT_DATE")
    assert json.loads(summary["data"]) == [{"category": "tea", "count": 2, "sum": 7}]
    assert {("read-replica.example.com", 5432), ("db.example.com", 5432)} <= set(names.asked)
    sessions = await databases.rows(
        "app",
        "SELECT usename, application_name AS application, count(*) FROM pg_stat_activity "
        "WHERE datname = 'app' AND usename <> 'postgres' GROUP BY 1, 2 ORDER BY 1",
    )
    named = reader["read_db"]["config"]["server_settings"]["application_name"]
    assert sessions == [
        {"usename": "app_reader", "application": named, "count": 1},
        {"usename": "dbuser", "application": "torana", "count": 10},
    ]


async def test_rate_limited_calls_carry_the_references_headers_and_the_secrets_token(
    reader: Reader, gateway: Gateway, site: Site
) -> None:
    for number in (1, 2, 3):
        site.answer(f"GET /items/{number}", {"id": number, "price": number * 10})
    await store(gateway)
    workflow = await reader.framed("user 8")
    items = [{"id": number} for number in (1, 2, 3)]
    response = await run(gateway, workflow, {"items": items}, {"api": reader["api_resource"]})
    assert output(response, "rate_limited_calls") == {
        "processed": [{"id": 1, "price": 10}, {"id": 2, "price": 20}, {"id": 3, "price": 30}]
    }
    expected = reader["api_resource"]["config"]["headers"]
    for received in site.received:
        assert received.headers["User-Agent"] == expected["User-Agent"]
        assert received.headers["Accept"] == expected["Accept"]
        assert received.headers["Authorization"] == "Bearer token-of-the-api"


@pytest.mark.parametrize(("kind", "ttl"), [("daily", 3_600), ("monthly", 86_400), ("other", 300)])
async def test_a_report_is_made_once_and_then_comes_from_the_cache(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis, kind: str, ttl: int
) -> None:
    await databases.make("app", "CREATE TABLE sales (amount int); INSERT INTO sales VALUES (3), (4);")
    await store(gateway)
    gateway.register_function("process_report_data", lambda rows: {"total": sum(row["amount"] for row in rows)})
    workflow = await reader.framed("user 9")
    parameters = {"report_type": kind, "date": "2026-01-15", "expensive_query": "SELECT amount FROM sales"}
    resources = {"cache": reader["cache_resource"], "db": database("app")}
    first = await run(gateway, workflow, parameters, resources)
    assert output(first, "smart_caching") == {"total": 7, "from_cache": False}
    assert ttl - 10 < await cache.ttl(f"report:{kind}:2026-01-15") <= ttl
    second = await run(gateway, workflow, parameters, resources)
    assert output(second, "smart_caching") == {"total": 7, "from_cache": True}


CHARGE = """
api = await get_resource("payment_api")
response = await api.post("/v1/charges", json={"amount": 5})
return await response.json()
"""


async def test_a_secret_with_one_key_per_provider_gives_each_host_its_own(
    reader: Reader, gateway: Gateway, site: Site
) -> None:
    site.answer("POST /v1/charges", {"id": "ch_1"})
    reader["gateway"] = gateway
    await reader.run("user 10")
    workflow = reader["WorkflowBuilder"]("pay").add_async_code("pay", CHARGE).build()
    assert output(await run(gateway, workflow, {}, reader["resources"]), "pay") == {"id": "ch_1"}
    keys = await gateway.secret_manager.get_secret("api_keys")
    (received,) = site.received
    assert received.host == "api.stripe.com"
    assert received.headers["Authorization"] == f"Bearer {keys['stripe']}"
    assert (await gateway.secret_manager.get_secret("db_creds"))["user"] == "app_user"


async def test_inputs_are_checked_before_the_database_is_asked(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("app")
    await store(gateway)
    workflow = await reader.framed("user 11")
    valid = {"user_id": 1, "email": "ada@example.com' OR '1'='1", "status": "odd"}

    async def outcome(**changed: object) -> tuple[str, str]:
        response = await run(gateway, workflow, {**valid, **changed}, {"db": database("app")})
        return (response.error.type, response.error.message) if response.error else (response.status, "")

    assert await outcome(user_id=-1) == ("ValueError", "Invalid user_id")
    assert await outcome(user_id="1; DROP TABLE users") == ("ValueError", "Invalid user_id")
    assert await outcome(email="nowhere") == ("ValueError", "Invalid email")
    kind, message = await outcome()
    assert kind == "UndefinedTableError"
    assert "users" in message
    async with databases.open("app") as connection:
        await connection.execute("CREATE TABLE users (id int, email text); GRANT SELECT ON users TO dbuser;")
    assert await outcome() == ("completed", "")


async def test_a_step_reaches_the_resources_it_declares_and_no_others(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    for name in ("public_data", "admin_data"):
        await databases.make(name)
    for secret, login in (("public_db_creds", "db_creds_readonly"), ("admin_db_creds", "db_creds")):
        await gateway.secret_manager.store_secret(secret, SECRETS[login])
    workflow = await reader.framed("user 12")
    assert output(await run(gateway, workflow, {}, reader["resources"]), "public_query") is None

    builder = reader["WorkflowBuilder"]("trespass")
    source = 'public = await get_resource("public_db"); await get_resource("admin_db")'
    trespass = builder.add_async_code("step", source, required_resources=["public_db"]).build()
    response = await run(gateway, trespass, {}, reader["resources"])
    assert response.error is not None
    assert response.error.type == "RESOURCE_NOT_DECLARED"
    assert "admin_db" in response.error.message
