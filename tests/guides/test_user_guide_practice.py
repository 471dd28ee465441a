"""The user guide on errors, speed, watching and patterns. docs/from-the-guides.md has every block and its test."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from guides.databases import Databases
from guides.neighbourhood import Site
from guides.reader import Reader
from guides.running import CACHE, build_and_register, database, log_lines, output, run, store, web
from torana_server import Gateway

PROCESS_ITEM = """
    CREATE FUNCTION process_item(item int) RETURNS TABLE (item_id int, doubled int) LANGUAGE plpgsql AS $$
    BEGIN
        IF item % 2 = 0 THEN RAISE EXCEPTION 'item % is broken', item; END IF;
        RETURN QUERY SELECT item, item * 2;
    END $$;
"""


async def test_what_the_database_refuses_comes_from_the_cache_or_is_reported(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis
) -> None:
    await databases.make("app", PROCESS_ITEM)
    await cache.mset({"item:2": '{"doubled": 4}', "item:6": "no JSON"})
    await store(gateway)
    workflow = await reader.framed("user 13")
    items = [{"id": number} for number in (1, 2, 4, 6)]
    response = await run(gateway, workflow, {"items": items}, {"db": database("app"), "cache": CACHE})
    result = output(response, "fault_tolerant_processing")
    assert (result["success_count"], result["error_count"]) == (2, 2)
    assert result["results"] == [
        {"id": 1, "status": "success", "data": {"item_id": 1, "doubled": 2}},
        {"id": 2, "status": "cached", "data": {"doubled": 4}},
    ]
    assert result["errors"][0] == {"id": 4, "error": "db_error", "message": "item 4 is broken"}
    assert (result["errors"][1]["id"], result["errors"][1]["error"]) == (6, "total_failure")


async def test_a_flaky_api_is_asked_again_with_growing_pauses(reader: Reader, gateway: Gateway, site: Site) -> None:
    site.answer("POST /process", "not now", {"done": True})
    workflow = await reader.framed("user 14")
    began = time.monotonic()
    response = await run(gateway, workflow, {"input_data": [1, 2]}, {"flaky_api": web()})
    assert output(response, "retry_with_backoff") == {"status": "success", "data": {"done": True}}
    assert time.monotonic() - began >= 1
    assert [received.body for received in site.received] == [{"data": [1, 2]}] * 2


async def test_an_api_that_stays_down_is_an_answer_of_the_step(reader: Reader, gateway: Gateway, site: Site) -> None:
    site.answer("POST /process", "never")
    workflow = await reader.framed("user 14", instead={"backoff=1.0": "backoff=0.0"})
    response = await run(gateway, workflow, {"input_data": 1}, {"flaky_api": web()})
    result = output(response, "retry_with_backoff")
    assert result["status"] == "failed"
    assert "text/plain" in result["error"]
    assert len(site.received) == 3


async def test_rows_are_written_and_read_by_the_hundred(reader: Reader, gateway: Gateway, databases: Databases) -> None:
    await databases.make(
        "app",
        """
        CREATE TABLE processed (id int, data text);
        CREATE TABLE results (id int, value int);
        INSERT INTO results SELECT n, n * n FROM generate_series(1, 240) AS n;
        """,
    )
    await store(gateway)
    workflow = await reader.framed("user 15")
    items = [{"id": number, "name": f"item {number}"} for number in range(1, 251)]
    response = await run(gateway, workflow, {"items": items}, {"db": database("app")})
    assert output(response, "batch_process") == {"processed": 240, "batches": 3}
    rows = await databases.rows("app", "SELECT data FROM processed ORDER BY id")
    assert [json.loads(row["data"]) for row in rows] == items


async def test_items_are_processed_side_by_side_and_errors_are_kept_apart(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make("app", PROCESS_ITEM)
    await store(gateway)
    workflow = await reader.framed("user 16")
    items = [{"id": number} for number in range(1, 31)]
    result = output(await run(gateway, workflow, {"items": items}, {"db": database("app")}), "concurrent_processing")
    assert result["total"] == 30
    assert result["success"] == [{"item_id": number, "doubled": 2 * number} for number in range(1, 31, 2)]
    assert result["errors"] == [f"item {number} is broken" for number in range(2, 31, 2)]


async def test_a_value_comes_from_memory_then_from_the_cache_then_from_the_database(
    reader: Reader, gateway: Gateway, databases: Databases, cache: Redis
) -> None:
    await databases.make("app", "CREATE TABLE data (id int, value text); INSERT INTO data VALUES (1, 'kept');")
    workflow = await reader.framed("user 17")
    resources = {"cache": CACHE, "db": database("app")}

    async def ask(gateway: Gateway, number: int) -> Any:
        return output(await run(gateway, workflow, {"data_id": number}, resources), "tiered_caching")

    await store(gateway)
    assert await ask(gateway, 1) == {"id": 1, "value": "kept", "cache_hit": "miss"}
    assert 3_590 < await cache.ttl("data:1") <= 3_600
    assert await ask(gateway, 1) == {"id": 1, "value": "kept", "cache_hit": "L1"}
    assert await ask(gateway, 2) == {"error": "not_found"}
    async with Gateway(enable_durability=False) as another:
        await store(another)
        assert await ask(another, 1) == {"id": 1, "value": "kept", "cache_hit": "L2"}


async def test_a_step_measures_itself_also_when_it_fails(reader: Reader, gateway: Gateway, cache: Redis) -> None:
    async def process_items(items: list[int]) -> list[int]:
        return [100 // item for item in items]

    gateway.register_function("process_items", process_items)
    workflow = await reader.framed("user 18")
    good = await run(gateway, workflow, {"items": [1, 2]}, {"cache": CACHE})
    result = output(good, "instrumented_step")
    assert result["processed"] == [100, 50]
    assert (result["metrics"]["success"], result["metrics"]["processed_count"]) == (True, 2)

    bad = await run(gateway, workflow, {"items": [0]}, {"cache": CACHE})
    assert bad.error is not None
    assert bad.error.type == "ZeroDivisionError"
    stored = [json.loads(line) for line in await cache.lrange("workflow:metrics", 0, -1)]
    assert [(one["workflow"], one["step"], one["metrics"]["success"]) for one in stored] == [
        ("user_18", "instrumented_step", False),
        ("user_18", "instrumented_step", True),
    ]
    (line,) = await log_lines(gateway, good.execution_id)
    assert json.loads(line.removeprefix("Step metrics: ")) == result["metrics"]


async def test_debug_mode_logs_inputs_and_result_and_reads_the_pool(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    async def process_data() -> dict[str, object]:
        return {"rows": 3}

    await databases.make("app")
    await store(gateway)
    gateway.register_function("process_data", process_data)
    reader["gateway"] = gateway
    reference = {"db": database("app")}
    change = {
        "resources={...}": f"resources={reference!r}, parameters={{'start_time': {time.time()!r}}}",
    }
    await build_and_register(reader, "user 19", "debug_example", "debug_workflow")
    gateway.workflows["debug_example"].metadata["debug"] = True  # its lines become events below INFO too
    await reader.run("user 19", instead=change)
    result = output(reader["response"], "debug_step")
    assert result["rows"] == 3
    assert result["_debug"]["execution_time"] == pytest.approx(0, abs=60)
    assert result["_debug"]["resource_stats"] == {"db_pool_size": 1, "db_pool_free": 1}
    lines = await log_lines(gateway, reader["response"].execution_id)
    assert [line.partition(":")[0] for line in lines] == ["Inputs", "DB pool size", "DB pool free", "Result"]
    assert json.loads(lines[0].removeprefix("Inputs: "))["debug"] is True


async def test_events_are_stored_and_the_aggregate_moves_on_by_one(
    reader: Reader, gateway: Gateway, databases: Databases
) -> None:
    await databases.make(
        "events",
        """
        CREATE TABLE events (id text, aggregate_id text, event_type text, payload jsonb, created_at timestamptz);
        CREATE TABLE aggregate_states (id text PRIMARY KEY, state jsonb, version int, updated_at timestamptz);
        """,
    )
    await store(gateway)
    await reader.run("user 20")
    resources = {"event_store": database("events")}
    for version, kind in enumerate(("opened", "paid")):
        parameters: dict[str, object] = {"aggregate_id": "a-1", "event_type": kind, "payload": {"by": "ada"}}
        parameters |= {"new_state": {"is": kind}, "version": version}
        result = output(await run(gateway, reader["event_workflow"], parameters, resources), "store_event")
        assert result["version"] == version + 1
    events = await databases.rows("events", "SELECT id, event_type, payload FROM events ORDER BY created_at")
    assert [(event["event_type"], json.loads(event["payload"])) for event in events] == [
        ("opened", {"by": "ada"}),
        ("paid", {"by": "ada"}),
    ]
    assert events[1]["id"] == result["event_id"]
    (state,) = await databases.rows("events", "SELECT state, version FROM aggregate_states")
    assert (json.loads(state["state"]), state["version"]) == ({"is": "paid"}, 2)


ORDER = {"product_id": 1, "quantity": 2, "customer_id": 5, "order_id": "o-1", "amount": 40}


async def ready_to_sell(gateway: Gateway, databases: Databases) -> dict[str, object]:
    await databases.make(
        "inventory",
        "CREATE TABLE inventory (product_id int, available int, reserved int); INSERT INTO inventory VALUES (1, 3, 0);",
    )
    await databases.make(
        "orders",
        "CREATE TABLE orders (id text, customer_id int, product_id int, quantity int, charge_id text, status text);",
    )
    await store(gateway)
    return {"inventory_db": database("inventory"), "order_db": database("orders"), "payment_api": web()}


async def stock(databases: Databases) -> dict[str, Any]:
    (row,) = await databases.rows("inventory", "SELECT available, reserved FROM inventory")
    return row


async def test_a_saga_sells_what_is_there_once(
    reader: Reader, gateway: Gateway, databases: Databases, site: Site
) -> None:
    resources = await ready_to_sell(gateway, databases)
    site.answer("POST /charge", {"status": "succeeded", "id": "ch_1"})
    await reader.run("user 21")
    sold = await run(gateway, reader["saga_workflow"], ORDER, resources)
    order = {"id": "o-1", "customer_id": 5, "product_id": 1, "quantity": 2, "charge_id": "ch_1", "status": "confirmed"}
    assert output(sold, "create_order") == {"order": order, "status": "completed"}
    assert await databases.rows("orders", "SELECT * FROM orders") == [order]
    assert await stock(databases) == {"available": 1, "reserved": 0}
    assert site.received[0].body == {"customer": 5, "amount": 40, "idempotency_key": "order_o-1"}

    sold_out = await run(gateway, reader["saga_workflow"], {**ORDER, "order_id": "o-2"}, resources)
    assert sold_out.error is not None
    assert (sold_out.error.step, sold_out.error.message) == ("reserve_inventory", "Insufficient inventory")
    assert len(site.received) == 1


async def test_a_saga_gives_back_what_it_reserved_when_the_payment_fails(
    reader: Reader, gateway: Gateway, databases: Databases, site: Site
) -> None:
    resources = await ready_to_sell(gateway, databases)
    site.answer("POST /charge", {"status": "declined", "error": "no funds"})
    await reader.run("user 21")
    response = await run(gateway, reader["saga_workflow"], ORDER, resources)
    assert response.error is not None
    assert (response.error.step, response.error.message) == ("charge_payment", "Payment failed: no funds")
    assert response.result == {"reserve_inventory": {"reserved": True, "product_id": 1}}
    assert await stock(databases) == {"available": 3, "reserved": 0}
    assert await databases.rows("orders", "SELECT * FROM orders") == []
