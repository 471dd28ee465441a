from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock, patch

import pytest

from torana_server import (
    ConflictError,
    ExecutionNotFoundError,
    Gateway,
    InvalidRequestError,
    InvalidWorkflowError,
    ResourceNotBoundError,
    ResourceNotFoundError,
    ResourceReference,
    ResourceRegistry,
    ResourceResolver,
    SecretManager,
    SecretNotFoundError,
    Settings,
    StateError,
    UnavailableError,
    Workflow,
    WorkflowBuilder,
    WorkflowNotFoundError,
    WorkflowRequest,
)
from torana_server.gateway import listen_address

SECRET = {"user": "u", "password": "canary-pw"}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway(enable_durability=False) as gateway:
        yield gateway


def adder() -> Workflow:
    return (
        WorkflowBuilder("add")
        .add_async_code("second", "result = {'sum': first_number + 1}")
        .add_async_code("first", "result = {'first_number': n}")
        .add_connection("first", "first_number", "second", "first_number")
        .build()
    )


def asking(*names: str) -> Workflow:
    source = f"return [(await get_resource(name))['label'] for name in {names!r}]"
    return WorkflowBuilder("ask").add_async_code("ask", source, required_resources=list(names)).build()


class Labels(ResourceResolver):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resolvers["label"] = self._resolve_label

    async def _resolve_label(self, config: dict[str, Any], credentials: dict[str, Any]) -> dict[str, Any]:
        return {"label": config["text"], "user": credentials.get("user")}


def label(text: str) -> dict[str, Any]:
    return {"type": "label", "config": {"text": text}}


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
async def test_a_secret_that_was_stored_before_the_start_is_durable(tmp_path: Path, own: bool) -> None:
    data = tmp_path / "data"
    gateway = Gateway(data_dir=data, secret_manager=SecretManager() if own else None)
    await gateway.secret_manager.store_secret("login", SECRET, encrypt=True)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert not (data / "journal.db").exists()
    await gateway.close()
    async with Gateway(data_dir=data) as later:
        assert await later.secret_manager.get_secret("login") == SECRET


async def test_what_a_secret_manager_held_before_it_had_a_gateway_moves_into_the_vault(tmp_path: Path) -> None:
    secrets = SecretManager()
    await secrets.store_secret("early", SECRET)
    gateway = Gateway(data_dir=tmp_path, secret_manager=secrets)
    await secrets.store_secret("late", SECRET)
    await gateway.close()
    async with Gateway(data_dir=tmp_path) as later:
        assert [info.name for info in await later.secret_manager.list_secrets()] == ["early", "late"]


def test_a_secret_may_be_stored_in_one_event_loop_and_used_in_another(tmp_path: Path) -> None:
    gateway = Gateway(data_dir=tmp_path)
    asyncio.run(gateway.secret_manager.store_secret("login", SECRET))

    async def later() -> dict[str, Any]:
        async with gateway:
            return await gateway.secret_manager.get_secret("login")

    assert asyncio.run(later()) == SECRET


async def test_a_missing_secret_has_an_error_of_its_own(gateway: Gateway) -> None:
    with pytest.raises(SecretNotFoundError, match="missing_key"):
        await gateway.secret_manager.get_secret("missing_key")


async def test_two_open_gateways_cannot_have_one_secret_manager(gateway: Gateway) -> None:
    with pytest.raises(StateError, match="give each gateway its own"):
        Gateway(enable_durability=False, secret_manager=gateway.secret_manager)


async def test_two_gateways_cannot_have_one_secret_manager_before_either_has_started() -> None:
    secrets = SecretManager()
    with pytest.raises(InvalidRequestError, match="resource_resolver"):
        Gateway(enable_durability=False, secret_manager=secrets, resource_resolver=cast("Any", "mine"))
    first = Gateway(enable_durability=False, secret_manager=secrets)
    with pytest.raises(StateError, match="give each gateway its own"):
        Gateway(enable_durability=False, secret_manager=secrets)
    await first.close()
    async with Gateway(enable_durability=False, secret_manager=secrets) as second:
        await second.secret_manager.store_secret("db", SECRET)


# --- running --------------------------------------------------------------------------------------------------------


async def test_results_come_in_the_order_of_the_workflows_steps(gateway: Gateway) -> None:
    gateway.register_workflow("add", adder())
    response = await gateway.execute_workflow("add", WorkflowRequest(parameters={"n": 1}))
    assert response.is_success
    assert list(response.result.items()) == [("second", {"sum": 2}), ("first", {"first_number": 1})]


async def test_a_failure_is_a_response_with_the_partial_result(gateway: Gateway) -> None:
    gateway.register_workflow("add", adder())
    response = await gateway.execute_workflow("add", WorkflowRequest(parameters={"n": "one"}))
    assert (response.status, response.is_success, response.result) == (
        "failed",
        False,
        {"first": {"first_number": "one"}},
    )
    assert str(response.error).startswith("step 'second', attempt 1: TypeError: ")


async def test_a_request_may_have_a_timeout(gateway: Gateway) -> None:
    gateway.register_workflow("wait", WorkflowBuilder("wait").add_async_code("s", "await asyncio.sleep(60)").build())
    response = await gateway.execute_workflow("wait", WorkflowRequest(timeout=0.05))
    assert (response.status, response.error.reason if response.error else "") == ("failed", "EXECUTION_TIMEOUT")


async def test_a_stream_yields_native_events_to_the_end(gateway: Gateway) -> None:
    source = "await progress(0.5, 'half', rows=2)\nawait emit('row', {'n': n})\nreturn {'day': date(2026, 1, 15)}"
    gateway.register_workflow("tell", WorkflowBuilder("tell").add_async_code("s", source).build())
    events = [event async for event in gateway.execute_stream("tell", WorkflowRequest(parameters={"n": 7}))]
    told = {event.kind: event.data for event in events}
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert told["step_progress"] == {"fraction": 0.5, "message": "half", "data": {"rows": 2}}
    assert told["step_emitted"] == {"topic": "row", "value": {"n": 7}}
    assert str(told["step_completed"]["output"]["day"]) == "2026-01-15"
    assert events[-1].is_terminal


async def test_a_stream_that_is_closed_early_leaves_no_watch_behind_and_the_execution_goes_on(gateway: Gateway) -> None:
    gateway.register_function("gate", (gate := asyncio.Event()).wait)
    gateway.register_workflow("wait", WorkflowBuilder("wait").add_async_code("s", "await gate()\nreturn 1").build())
    stream = gateway.execute_stream("wait")
    execution_id = (await anext(stream)).execution
    feed = gateway._app.engine._feed
    assert feed.watchers(execution_id) == 1
    await stream.aclose()
    assert feed.watchers(execution_id) == 0
    gate.set()
    assert (await gateway.wait(execution_id)).is_success


async def test_an_execution_is_started_watched_and_waited_for_by_its_id(gateway: Gateway) -> None:
    gateway.register_workflow("add", adder())
    execution_id = await gateway.start_workflow("add", WorkflowRequest(parameters={"n": 1}))
    kinds = [event.kind async for event in gateway.watch(execution_id)]
    assert (kinds[0], kinds[-1]) == ("accepted", "completed")
    assert [event.kind async for event in gateway.watch(execution_id, after_sequence=3)] == kinds[3:]
    assert (await gateway.wait(execution_id)).result["second"] == {"sum": 2}
    found = await gateway.get_execution(execution_id)
    assert (found.state, found.is_finished, list(found.result)) == ("completed", True, ["second", "first"])
    with pytest.raises(ExecutionNotFoundError):
        await gateway.wait("01900000-0000-7000-8000-000000000000")


async def test_a_cancelled_execution_says_so_and_can_be_retried(gateway: Gateway) -> None:
    started = asyncio.Event()

    async def hang() -> str:
        if started.is_set():
            return "done"
        started.set()
        await asyncio.Event().wait()
        return "never"

    gateway.register_workflow("hang", WorkflowBuilder("hang").add_step("hang", hang).build())
    execution_id = await gateway.start_workflow("hang")
    await started.wait()
    assert (await gateway.get_execution(execution_id)).state == "running"
    await gateway.cancel(execution_id, "enough")
    assert (await gateway.wait(execution_id)).status == "cancelled"
    with pytest.raises(StateError):
        await gateway.cancel(execution_id)
    retried = await gateway.wait(await gateway.retry_execution(execution_id))
    assert (retried.status, retried.result) == ("completed", {"hang": "done"})
    assert [execution.retry_of for execution in await gateway.list_executions()] == [execution_id, ""]


async def test_executions_are_listed_newest_first_by_filter_and_in_pages(gateway: Gateway) -> None:
    gateway.register_workflow("add", adder())
    ids = [
        (await gateway.execute_workflow("add", WorkflowRequest(parameters={"n": n}))).execution_id for n in (1, "x", 3)
    ]
    assert [execution.id for execution in await gateway.list_executions()] == ids[::-1]
    assert [execution.id for execution in await gateway.list_executions("state = FAILED")] == [ids[1]]
    assert [execution.id for execution in await gateway.list_executions(limit=1, before=ids[1])] == [ids[0]]
    with pytest.raises(InvalidRequestError):
        await gateway.list_executions(limit=0)


async def test_one_who_waits_when_the_gateway_closes_is_told(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    gateway = Gateway(settings=Settings(data_dir=tmp_path, drain_grace_s=0))
    gateway.register_workflow("hang", WorkflowBuilder("hang").add_step("hang", hang).build())
    waiting = asyncio.create_task(gateway.execute_workflow("hang"))
    await started.wait()
    await gateway.close()
    with pytest.raises(UnavailableError, match="goes on at the next start"):
        await waiting


async def test_the_metadata_of_a_registered_workflow_can_be_changed(gateway: Gateway) -> None:
    gateway.register_workflow("add", adder(), metadata={"team": "a"})
    gateway.workflows["add"].metadata["debug"] = True
    assert gateway.workflows["add"].metadata == {"team": "a", "debug": True}


async def test_what_is_no_workflow_is_not_registered(gateway: Gateway) -> None:
    builder: Any = WorkflowBuilder("add").add_async_code("s", "pass")
    with pytest.raises(InvalidWorkflowError, match=r"WorkflowBuilder is no workflow; .* build\(\)"):
        gateway.register_workflow("add", builder)
    with pytest.raises(WorkflowNotFoundError):
        await gateway.execute_workflow("add")


def test_a_gateway_of_another_event_loop_says_so() -> None:
    gateway = Gateway(enable_durability=False)
    asyncio.run(gateway.start())
    with pytest.raises(StateError, match="another event loop"):
        asyncio.run(gateway.start())


async def test_a_closed_gateway_does_not_start_again() -> None:
    gateway = Gateway(enable_durability=False)
    await gateway.close()
    with pytest.raises(StateError, match="make a new one"):
        await gateway.start()


# --- resources ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["class", "instance", "instance with its own parts"])
async def test_a_resolver_is_given_as_a_class_or_an_instance(given: str) -> None:
    registry = ResourceRegistry()
    chosen: dict[str, Any] = {
        "class": Labels,
        "instance": Labels(),
        "instance with its own parts": Labels(registry, SecretManager()),
    }
    gateway = Gateway(resource_resolver=chosen[given], enable_durability=False)
    assert gateway._resource_resolver.resource_registry is gateway.resource_registry
    assert gateway._resource_resolver.secret_manager is gateway.secret_manager
    assert (gateway.resource_registry is registry) == (given == "instance with its own parts")
    gateway.register_workflow("ask", asking("a"))
    async with gateway:
        response = await gateway.execute_workflow("ask", WorkflowRequest(resources={"a": label("one")}))
    assert response.result == {"ask": ["one"]}


def test_what_is_no_resolver_is_refused() -> None:
    for wrong in (object(), lambda registry, secrets: {}):
        with pytest.raises(InvalidRequestError, match="a subclass of ResourceResolver or an instance of one"):
            Gateway(enable_durability=False, resource_resolver=wrong)  # type: ignore[arg-type]


@pytest.fixture
async def labels() -> AsyncIterator[Gateway]:
    async with Gateway(resource_resolver=Labels, enable_durability=False) as gateway:
        gateway.register_workflow("ask", asking("a"))
        yield gateway


async def labelled(gateway: Gateway, binding: Any) -> Any:
    response = await gateway.execute_workflow("ask", WorkflowRequest(resources={"a": binding}))
    return response.result["ask"]


async def test_a_later_request_refers_to_the_references_of_earlier_ones_by_their_names(labels: Gateway) -> None:
    assert await labelled(labels, label("one")) == ["one"]
    assert await labelled(labels, "@a") == ["one"]
    assert await labelled(labels, label("two")) == ["two"]
    assert await labelled(labels, "@a") == ["two"]


async def test_an_operators_name_stands_above_those_of_requests(labels: Gateway) -> None:
    labels.resource_registry.register("a", label("operator's"))
    assert await labelled(labels, label("request's")) == ["request's"]
    assert await labelled(labels, "@a") == ["operator's"]
    with pytest.raises(ConflictError):
        await labelled(labels, {**label("other"), "register_as": "a"})


async def test_references_of_requests_are_not_shared_when_switched_off() -> None:
    async with Gateway(resource_resolver=Labels, enable_durability=False, share_inline_resources=False) as gateway:
        gateway.register_workflow("ask", asking("a"))
        assert await labelled(gateway, label("one")) == ["one"]
        with pytest.raises(ResourceNotFoundError):
            await labelled(gateway, "@a")


async def test_a_resource_that_a_request_left_out_is_not_taken_from_an_earlier_request(labels: Gateway) -> None:
    await labelled(labels, label("one"))
    with pytest.raises(ResourceNotBoundError):
        await labels.execute_workflow("ask", WorkflowRequest())


async def test_a_patched_resolver_gives_its_object_to_every_step(gateway: Gateway) -> None:
    mock = AsyncMock()
    mock.fetch.return_value = [{"id": 1}]
    source = "db = await get_resource('db')\nreturn await db.fetch('SELECT 1')"
    gateway.register_workflow(
        "mocked", WorkflowBuilder("mocked").add_async_code("s", source, required_resources=["db"]).build()
    )
    for reference in ({"type": "database", "config": {"host": "h"}}, ResourceReference("mock")):
        with patch.object(gateway._resource_resolver, "resolve", return_value=mock):
            response = await gateway.execute_workflow("mocked", WorkflowRequest(resources={"db": reference}))
        assert response.result == {"s": [{"id": 1}]}
    assert (await gateway.health_check())["resources"] == {}


@pytest.mark.parametrize(
    "resources",
    [{}, {"a": "@nowhere"}, {"a": {"type": "database", "config": {"port": "x"}}}, {"a": {"typ": "label"}}, {"a": "x"}],
)
async def test_whatever_is_wrong_with_resources_is_a_value_error_about_a_resource(
    labels: Gateway, resources: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="Resource"):
        await labels.execute_workflow("ask", WorkflowRequest(resources=resources))


# --- health ---------------------------------------------------------------------------------------------------------


async def test_health_is_plain_json_and_starts_the_gateway_and_opens_no_resource() -> None:
    opened = []
    gateway = Gateway(enable_durability=False)
    gateway.resource_registry.register_factory("ledger", lambda: opened.append(1))
    health = json.loads(json.dumps(await gateway.health_check()))
    assert health["status"] == "healthy"
    assert health["components"].keys() == {"journal", "event_loop"}
    assert health["components"]["journal"].keys() == {"status", "latency_ms", "last_error", "since"}
    assert health["resources"]["ledger"]["status"] == "idle"
    assert opened == []
    await gateway.close()


async def test_a_registered_reference_that_fits_no_type_is_unhealthy_and_hides_nothing_else(gateway: Gateway) -> None:
    gateway.resource_registry.register("typo", {"type": "databse"})
    gateway.resource_registry.register_factory("ledger", list)
    health = await gateway.health_check()
    assert health["status"] == "degraded"
    assert health["resources"]["ledger"]["status"] == "idle"
    assert health["resources"]["typo"]["status"] == "unhealthy"
    assert "did you mean 'database'?" in health["resources"]["typo"]["last_error"]


async def test_health_asks_live_resources_by_their_own_checks_now(gateway: Gateway) -> None:
    state = {"label": "x", "well": True}

    async def is_well(resource: dict[str, Any]) -> bool:
        return bool(resource["well"])

    gateway.resource_registry.register_factory("a", lambda: state, health_check=is_well)
    gateway.register_workflow("ask", asking("a"))
    assert (await gateway.execute_workflow("ask")).result == {"ask": ["x"]}
    first_asked = datetime.now(UTC)
    well = await gateway.health_check()
    for component in ("journal", "event_loop"):
        assert datetime.fromisoformat(well["components"][component]["since"]) < first_asked, "known since the start"
    state["well"] = False
    unwell = await gateway.health_check()
    assert (well["status"], unwell["status"]) == ("healthy", "degraded")
    assert well["resources"]["a"]["status"] == "healthy"
    assert well["resources"]["a"]["latency_ms"] >= 0
    assert unwell["resources"]["a"]["status"] == "unhealthy"
    assert "returned False" in unwell["resources"]["a"]["last_error"]
    assert unwell["resources"]["a"]["since"] > well["resources"]["a"]["since"]


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        (None, 7000, "127.0.0.1:7000"),
        ("0.0.0.0", None, "0.0.0.0:7233"),
        ("::1", 7000, "[::1]:7000"),
        ("[::1]", 0, "[::1]:0"),
    ],
)
def test_run_listens_where_it_is_told(host: str | None, port: int | None, address: str) -> None:
    assert listen_address(host, port) == address


@pytest.mark.parametrize("choice", [dict, object(), AsyncMock])
def test_what_is_no_resolver_is_refused_before_it_is_called(choice: Any) -> None:
    with pytest.raises(InvalidRequestError, match="a subclass of ResourceResolver or an instance of one, not"):
        Gateway(enable_durability=False, resource_resolver=choice)


async def test_a_limit_of_versions_is_one_or_more() -> None:
    async with Gateway(enable_durability=False) as gateway:
        with pytest.raises(InvalidRequestError, match="limit is -1"):
            await gateway.secret_manager.list_versions("login", limit=-1)
