"""The user guide's quick start and common use cases. docs/from-the-guides.md has every block and its test."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from guides.databases import Databases
from guides.neighbourhood import NameService, Site
from guides.reader import Reader
from guides.running import CACHE, SECRETS, build_and_register, cached, database, output, run, store, web
from torana_server import Gateway

USERS = """
    CREATE TABLE users (id int PRIMARY KEY, name text, email text, tier text, created_at timestamp);
    INSERT INTO users VALUES
        (1, 'ada lovelace', 'ada@example.com', 'premium', now() - interval '2 days 1 hour'),
        (2, 'bob', 'bob@example.org', 'basic', now() - interval '1 hour'),
        (3, 'old timer', 'old@example.net', 'basic', now() - interval '30 days');
"""


async def test_the_basic_setup_asks_a_database_and_a_client_does_the_same(
    reader: Reader, databases: Databases, for_clients: NameService
) -> None:
    await databases.make("test")
    async with Gateway() as gateway:  # yesterday, in the same folder: the vault keeps what it is given
        await store(gateway, "db_creds")
    assert await reader.run("user 1") == "Hello from database!\n"
    assert reader["response"].status == "completed"
    assert reader["response"].result == {"query": {"message": "Hello from database!"}}

    for_clients.lead(await reader["gateway"].serve("127.0.0.1:0"), ("localhost", 8000))
    assert await reader.run("user 2") == "Hello from database!\n"
    assert reader["result"].is_success
    assert ("localhost", 8000) in for_clients.asked


async def test_an_etl_run_leaves_its_rows_in_the_cache(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis
) -> None:
    await databases.make("users", USERS)
    await gateway.secret_manager.store_secret("prod_db", SECRETS["db_creds"])
    reader["gateway"] = gateway
    assert await reader.run("user 3") == "Loaded 2 users to cache\n"
    assert reader["response"].result["load"] == {"loaded": 2, "cache_keys": 3}
    assert await cached(cache, "user:1:profile") == {
        "id": 1,
        "display_name": "Ada Lovelace",
        "email_domain": "example.com",
        "days_active": 2,
    }
    assert 3_590 < await cache.ttl("user:1:profile") <= 3_600
    summary = await cached(cache, "users:summary")
    assert summary["total_users"] == 2
    assert sorted(summary["domains"]) == ["example.com", "example.org"]
    assert time.time() - 60 < summary["updated_at"] <= time.time()


async def test_four_endpoints_become_one_dashboard_again_and_again(
    reader: Reader, gateway: Gateway, cache: Redis, site: Site
) -> None:
    site.answer("GET /users/stats", {"active_count": 7, "growth_chart": [1, 2]})
    site.answer("GET /orders/today", {"count": 3})
    site.answer("GET /products/popular", [{"name": "kettle"}])
    site.answer("GET /metrics/revenue", {"today": 12.5, "trend": [10, 12.5]})
    await store(gateway, "api_key")
    reader["gateway"] = gateway
    await build_and_register(reader, "user 4", "dashboard_data", "api_workflow")
    metrics = {"active_users": 7, "orders_today": 3, "revenue_today": 12.5, "top_product": "kettle"}
    assert await reader.run_until_print("user 4") == f"Dashboard updated: {metrics}\n"
    dashboard = await cached(cache, "dashboard:latest")
    assert dashboard["metrics"] == metrics
    assert dashboard["charts"] == {"user_growth": [1, 2], "revenue_trend": [10, 12.5]}
    assert 50 < await cache.ttl("dashboard:latest") <= 60
    paths = {"/users/stats", "/orders/today", "/products/popular", "/metrics/revenue"}
    assert {received.path for received in site.received} == paths
    assert {received.headers["Authorization"] for received in site.received} == {"Bearer key-of-the-api"}


async def test_event_batches_are_enriched_from_database_and_cache(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis
) -> None:
    await databases.make("app", USERS)
    await cache.set("user:1:prefs", '{"lang": "fa"}')
    reader["gateway"] = gateway
    placeholders = {
        '"database", "config": {...}': '"database", "config": {"host": "localhost", "database": "app"}',
        '"cache", "config": {...}': '"cache", "config": {"host": "localhost"}',
    }
    await reader.run("user 5", instead=placeholders)
    gateway.register_workflow("process_events", reader["stream_workflow"])

    async def batches() -> AsyncIterator[list[dict[str, Any]]]:
        yield [{"id": 10, "user_id": 1}, {"id": 11, "user_id": 2}, {"id": 12, "user_id": 99}]
        yield [{"id": 13, "user_id": 2}]

    reader["batches"] = batches
    printed = await reader.run_text("user 5", "await process_event_stream(gateway, batches())")
    assert printed == "Processed 2 events, 1 high priority\nProcessed 1 events, 0 high priority\n"
    enriched = await cached(cache, "event:10:processed")
    assert enriched.pop("processed_at") == pytest.approx(time.time(), abs=60)
    assert enriched == {
        "id": 10,
        "user_id": 1,
        "user_name": "ada lovelace",
        "user_tier": "premium",
        "priority": "high",
        "preferences": {"lang": "fa"},
    }
    assert 7_190 < await cache.ttl("event:10:processed") <= 7_200
    assert 3_590 < await cache.ttl("event:11:processed") <= 3_600
    assert await cache.get("event:12:processed") is None


ORDER = {
    "order_id": "o-1",
    "customer_id": 5,
    "order_total": 40,
    "order_items": [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}],
}


async def ready_to_validate(gateway: Gateway, databases: Databases, site: Site) -> dict[str, object]:
    await databases.make(
        "inventory",
        "CREATE TABLE inventory (product_id int, available_quantity int); INSERT INTO inventory VALUES (1, 5), (2, 1);",
    )
    site.answer("POST /credit/check", {"approved": True, "limit": 1_000, "available": 900})
    await store(gateway)
    return {"inventory_db": database("inventory"), "credit_api": web(credentials_ref="api_token"), "cache": CACHE}


async def test_an_order_is_validated_step_by_step_and_what_one_found_reaches_all_that_follow(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis, site: Site
) -> None:
    resources = await ready_to_validate(gateway, databases, site)
    await reader.run("user 6")
    verdict = output(await run(gateway, reader["validation_workflow"], ORDER, resources), "final_validation")
    assert verdict["valid"] is True
    assert verdict["checks"]["credit"] == {"passed": True, "limit": 1_000}
    assert await cached(cache, "order:o-1:validation") == verdict
    assert 290 < await cache.ttl("order:o-1:validation") <= 300
    assert site.received[0].body == {"customer_id": 5, "amount": 40}
    assert site.received[0].headers["Authorization"] == "Bearer token-of-the-api"


async def test_a_name_that_a_skipped_check_never_supplied_is_an_error_that_names_it(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis, site: Site
) -> None:
    resources = await ready_to_validate(gateway, databases, site)
    too_many = {**ORDER, "order_items": [{"product_id": 2, "quantity": 3}]}
    await reader.run("user 6")
    response = await run(gateway, reader["validation_workflow"], too_many, resources)
    assert response.status == "failed"
    assert response.error is not None
    assert (response.error.type, response.error.step) == ("INPUT_NOT_FOUND", "final_validation")
    assert "approved" in response.error.message
    assert response.result["check_credit"] == {"credit_check": "skipped", "reason": "inventory_issues"}

    await reader.run("user 6", instead={'{"passed": approved,': '{"passed": valid and approved,'})
    verdict = output(await run(gateway, reader["validation_workflow"], too_many, resources), "final_validation")
    issue = {"product_id": 2, "requested": 3, "available": 1}
    assert verdict["checks"]["inventory"] == {"passed": False, "issues": [issue]}
    assert verdict["checks"]["credit"] == {"passed": False, "limit": None}
    assert site.received == []
