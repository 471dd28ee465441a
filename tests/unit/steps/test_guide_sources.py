"""Every source step of the gateway guides runs as it is written there."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from unit.steps.world import Cache, Database, Http, World, code

SOURCES = {path.stem: path.read_text("utf-8") for path in sorted((Path(__file__).parent / "guide_sources").glob("*"))}


async def run(
    name: str, world: World | None = None, /, *, resources: dict[str, object] | None = None, **inputs: Any
) -> Any:
    world = world or World()
    world.leases.objects.update(resources or {})
    output = await world.source(SOURCES[name], **inputs)
    assert world.leases.out == 0
    return output


@pytest.mark.parametrize("name", SOURCES)
def test_every_guide_source_compiles(name: str) -> None:
    assert World().types.find("code").problems({"source": SOURCES[name]}) == []


async def test_hello_from_the_database() -> None:
    db = Database({"Hello": [{"greeting": "Hello from database!"}]})
    assert await run("user_query", resources={"mydb": db}) == {"message": "Hello from database!"}


async def test_the_etl_pipeline_of_the_user_guide() -> None:
    created = datetime.now() - timedelta(days=3)  # noqa: DTZ005 — the guide compares naive times
    user = {"id": 1, "name": "ada lovelace", "email": "ada@example.com", "created_at": created}
    extracted = await run("user_extract", resources={"source_db": Database({"FROM users": [user]})})
    assert extracted["count"] == 1
    transformed = await run("user_transform", users=extracted["users"])
    assert transformed["transformed_users"] == [
        {"id": 1, "display_name": "Ada Lovelace", "email_domain": "example.com", "days_active": 3}
    ]
    cache = Cache()
    loaded = await run("user_load", resources={"cache": cache}, **transformed)
    assert loaded == {"loaded": 1, "cache_keys": 2}
    assert json.loads(cache.values["users:summary"])["domains"] == ["example.com"]


async def test_the_pipeline_of_the_developer_guide() -> None:
    rows = [{"id": 7, "name": "ada", "status": "active"}]
    extracted = await run("developer_extract", resources={"source_db": Database({"FROM users": rows})})
    transformed = await run("developer_transform", users=extracted["users"])
    assert transformed == {"transformed": [{"id": 7, "name": "ADA", "active": True}]}
    cache = Cache()
    assert await run("developer_load", resources={"result_cache": cache}, **transformed) == {"loaded": 1}
    assert list(cache.values) == ["user:7"]


async def test_api_aggregation_fetches_concurrently_and_builds_a_dashboard() -> None:
    bodies = {
        "/users/stats": {"active_count": 3},
        "/orders/today": {"count": 4},
        "/products/popular": [{"name": "Lamp"}],
        "/metrics/revenue": {"today": 5},
    }
    fetched = await run("user_fetch_all", resources={"http": Http(bodies)})
    built = await run("user_build_dashboard", resources={"cache": Cache()}, **fetched)
    assert built["dashboard"]["metrics"] == {
        "active_users": 3,
        "orders_today": 4,
        "revenue_today": 5,
        "top_product": "Lamp",
    }


async def test_event_batches_are_enriched() -> None:
    db = Database({"FROM users": [{"name": "Ada", "tier": "premium"}]})
    cache = Cache({"user:1:prefs": '{"lang": "en"}'})
    events = [{"id": "e1", "user_id": 1}]
    output = await run("user_process_batch", resources={"db": db, "cache": cache}, events=events)
    assert output["count"] == output["high_priority"] == 1
    assert output["processed"][0]["preferences"] == {"lang": "en"}


async def test_order_validation_runs_through_its_three_steps() -> None:
    db = Database({"FROM inventory": [{"product_id": "p", "available_quantity": 5}]})
    order = {"order_items": [{"product_id": "p", "quantity": 2}], "order_id": 9, "customer_id": 1, "order_total": 10}
    scope = await run("user_check_inventory", resources={"inventory_db": db}, **order)
    assert scope == {"valid": True, "issues": []}
    api = Http({"/credit/check": {"approved": True, "limit": 100, "available": 90}})
    scope |= await run("user_check_credit", resources={"credit_api": api}, **order, **scope)
    final = await run("user_final_validation", resources={"cache": Cache()}, **order, **scope)
    assert final["checks"]["credit"] == {"passed": True, "limit": 100}


async def test_order_validation_without_a_credit_limit_sees_none_in_locals() -> None:
    final = await run("user_final_validation", resources={"cache": Cache()}, order_id=9, valid=True, approved=True)
    assert final["checks"]["credit"] == {"passed": True, "limit": None}


async def test_the_credit_check_is_skipped_when_the_inventory_is_short() -> None:
    assert await run("user_check_credit", valid=False) == {"credit_check": "skipped", "reason": "inventory_issues"}


async def test_reads_use_one_database_and_writes_another() -> None:
    reader, writer = Database({"GROUP BY": [{"category": "a", "sum": 1}]}), Database()
    resources: dict[str, object] = {"read_db": reader, "write_db": writer}
    assert await run("user_read_heavy_operation", resources=resources) is None
    assert writer.executed[0][1] == '[{"category": "a", "sum": 1}]'


async def test_rate_limited_calls_reach_the_api() -> None:
    output = await run("user_rate_limited_calls", resources={"api": Http({"/items/1": {"n": 1}})}, items=[{"id": 1}])
    assert output == {"processed": [{"n": 1}]}


async def test_smart_caching_takes_an_input_that_shadows_a_provided_class_and_a_registered_function() -> None:
    world = World()
    world.functions.register("process_report_data", lambda rows: {"rows": len(rows)})
    resources: dict[str, object] = {"cache": Cache(), "db": Database({"FROM report": [{"n": 1}]})}
    inputs = {"report_type": "daily", "date": "2025-01-01", "expensive_query": "SELECT n FROM report"}
    for from_cache in (False, True):
        output = await run("user_smart_caching", world, resources=resources, **inputs)
        assert output == {"rows": 1, "from_cache": from_cache}


async def test_input_validation_raises_what_the_guide_raises() -> None:
    with pytest.raises(ValueError, match="Invalid user_id"):
        await run("user_validate_inputs", user_id=0, email="a@b", status="active")
    db = Database()
    assert await run("user_validate_inputs", resources={"db": db}, user_id=1, email="a@b", status="x") is None
    assert db.executed[0][1:] == (1, "a@b")


async def test_a_step_with_declared_resources_gets_them() -> None:
    world = World()
    world.leases.objects["public_db"] = Database()
    step = code(SOURCES["user_public_query"], required_resources=("public_db",))
    assert await world.run(step) is None
    assert world.leases.opened == [frozenset({"public_db"})]


async def test_a_database_error_falls_back_to_the_cache() -> None:
    db = Database()
    db.failure = asyncpg.PostgresError("down")
    resources: dict[str, object] = {"db": db, "cache": Cache({"item:1": "[1]"})}
    output = await run("user_fault_tolerant_processing", resources=resources, items=[{"id": 1}, {"id": 2}])
    assert output["results"] == [{"id": 1, "status": "cached", "data": [1]}]
    assert output["errors"] == [{"id": 2, "error": "db_error", "message": "down"}]


async def test_calls_with_retry_return_the_response() -> None:
    api = Http({"/process": {"ok": True}})
    output = await run("user_retry_with_backoff", resources={"flaky_api": api}, input_data=[1])
    assert output == {"status": "success", "data": {"ok": True}}
    assert api.posted == [{"data": [1]}]


async def test_batches_are_written_and_read_back() -> None:
    db = Database({"FROM results": [{"id": 1}]})
    output = await run("user_batch_process", resources={"db": db}, items=[{"id": n} for n in range(150)])
    assert output == {"processed": 2, "batches": 2}


async def test_items_are_processed_concurrently() -> None:
    db = Database({"process_item": [{"done": True}]})
    output = await run("user_concurrent_processing", resources={"db": db}, items=[{"id": 1}, {"id": 2}])
    assert output == {"success": [{"done": True}, {"done": True}], "errors": [], "total": 2}


async def test_tiered_caching_keeps_a_local_cache_between_executions() -> None:
    world = World()
    resources: dict[str, object] = {"cache": Cache(), "db": Database({"FROM data": [{"id": 5}]})}
    hits = [(await run("user_tiered_caching", world, resources=resources, data_id=5))["cache_hit"] for _ in range(2)]
    assert hits == ["miss", "L1"]


async def test_an_instrumented_step_logs_and_stores_its_metrics() -> None:
    async def process_items(items: list[object]) -> list[object]:
        return items

    world, cache = World(), Cache()
    world.functions.register("process_items", process_items)
    output = await run("user_instrumented_step", world, resources={"cache": cache}, items=[1, 2])
    assert output["processed"] == [1, 2]
    assert world.events.lines[0][1].startswith('Step metrics: {"start_time"')
    assert json.loads(cache.lists["workflow:metrics"][0])["workflow"] == "user_etl"


@pytest.mark.parametrize("debug", [True, False])
async def test_the_debug_step_logs_all_its_inputs(debug: bool) -> None:
    async def process_data() -> dict[str, object]:
        return {"rows": 1}

    world = World()
    world.functions.register("process_data", process_data)
    world.leases.objects["db"] = Database()
    inputs = {"start_time": 0.0, "limit": 5}
    output: Any = await world.run(code(SOURCES["user_debug_step"]), inputs, context={"debug": debug})
    assert output["rows"] == 1
    assert ("_debug" in output) is debug
    logged = 'Inputs: {"limit": 5, "start_time": 0.0, "debug": true}'
    assert (logged in [line for _, line in world.events.lines]) is debug


async def test_an_event_is_stored_under_a_new_id() -> None:
    db = Database()
    inputs = {"aggregate_id": 1, "event_type": "t", "payload": {}, "new_state": {}, "version": 3}
    output = await run("user_store_event", resources={"event_store": db}, **inputs)
    assert output["version"] == 4
    assert output["event_id"] == db.executed[0][1]


async def test_the_saga_reserves_charges_and_orders() -> None:
    stock = Database({"RETURNING product_id": [{"product_id": "p"}]})
    order = {"product_id": "p", "quantity": 1, "customer_id": 2, "order_id": 3, "amount": 10}
    scope = await run("user_reserve_inventory", resources={"inventory_db": stock}, **order)
    api = Http({"/charge": {"id": "c", "status": "succeeded"}})
    order |= scope
    order |= await run("user_charge_payment", resources={"payment_api": api}, **order)
    orders = Database({"INSERT INTO orders": [{"id": 3}]})
    output = await run("user_create_order", resources={"order_db": orders, "inventory_db": stock}, **order)
    assert output == {"order": {"id": 3}, "status": "completed"}


async def test_the_saga_gives_the_reservation_back_when_the_payment_fails() -> None:
    stock = Database()
    api = Http({"/charge": {"status": "refused", "error": "no funds"}})
    order = {"reserved": True, "product_id": "p", "quantity": 1, "customer_id": 2, "order_id": 3, "amount": 10}
    with pytest.raises(Exception, match="Payment failed: no funds"):
        await run("user_charge_payment", resources={"payment_api": api, "inventory_db": stock}, **order)
    assert len(stock.executed) == 1


async def test_several_resources_are_used_concurrently() -> None:
    cache = Cache()
    users = Database({"FROM users": [{"id": 1}]})
    api = Http({"/orders?limit=100": [{"id": 2}]})
    output = await run("developer_fetch_data", resources={"user_db": users, "order_api": api, "cache": cache})
    assert output == {"user_count": 1, "order_count": 1}
    assert set(cache.values) == {"users:latest", "orders:latest"}


async def test_results_are_cached_between_workflows() -> None:
    world, cache = World(), Cache()
    world.functions.register("expensive_operation", lambda key: key * 2)
    for hit in (False, True):
        checked = await run("developer_check_cache", world, resources={"cache": cache}, input_key="k")
        assert checked["cache_hit"] is hit
        output = await run("developer_process", world, resources={"cache": cache}, input_key="k", **checked)
        assert output == {"processed": "kk"}


async def test_a_monitored_step_that_is_indented_is_dedented() -> None:
    async def process_data() -> dict[str, object]:
        return {"data": [1, 2]}

    world = World()
    world.functions.register("process_data", process_data)
    output = await run("developer_monitored_step", world)
    assert output["metrics"]["record_count"] == 2


async def test_a_plain_query_runs() -> None:
    assert await run("developer_process_2", resources={"db": Database()}, query="SELECT 1") is None


async def test_context_values_are_read_where_the_source_names_its_own_context() -> None:
    source = """
context = get_current_context()
return {"processed_by": context.get_variable("user"), "ttl": 60 if context.get("environment") is None else 3600}
"""
    output = await World().run(code(source), context={"user": "data_engineer"})
    assert output == {"processed_by": "data_engineer", "ttl": 60}
