"""What the guides promise those who write steps, each promise by itself. They need no guide to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from guides.databases import PASSWORD, Databases
from guides.neighbourhood import Site
from guides.running import CACHE, database, log_lines, output, run, store
from torana_server import (
    Gateway,
    ResourceError,
    ResourceReference,
    ResourceResolver,
    Workflow,
    WorkflowBuilder,
    WorkflowRequest,
)


def steps(**sources: str) -> WorkflowBuilder:
    """A builder with a step for each source, in their order."""
    builder = WorkflowBuilder("promise")
    for name, source in sources.items():
        builder.add_async_code(name, source)
    return builder


def one(source: str, *required: str) -> Workflow:
    return WorkflowBuilder("promise").add_async_code("step", source, required_resources=required).build()


async def step(gateway: Gateway, source: str, parameters: dict[str, object] | None = None, **options: Any) -> Any:
    """The output of a workflow of one step."""
    return output(await run(gateway, one(source), parameters, **options), "step")


async def failure(gateway: Gateway, workflow: Workflow, **options: Any) -> tuple[str, str]:
    """The type and the message of what a workflow fails for."""
    response = await run(gateway, workflow, **options)
    assert response.error is not None, response.result
    return response.error.type, response.error.message


async def test_get_resource_gives_what_the_request_bound_to_the_name(
    gateway: Gateway, databases: Databases, cache: Redis
) -> None:
    await databases.make("app")
    await store(gateway)
    source = """
        db, kept = await get_resource("db"), await get_resource("kept")
        await kept.set("name", await db.fetchval("SELECT current_database()"))
    """
    await step(gateway, source, resources={"db": database("app"), "kept": CACHE})
    assert await cache.get("name") == "app"


async def test_a_required_resource_that_nobody_bound_is_refused_before_anything_runs(gateway: Gateway) -> None:
    with pytest.raises(ResourceError, match="db"):
        await run(gateway, one("return 1", "db"))


async def test_a_step_with_required_resources_gets_those_and_no_others(gateway: Gateway, cache: Redis) -> None:
    workflow = one('await get_resource("other")', "mine")
    kind, message = await failure(gateway, workflow, resources={"mine": CACHE, "other": CACHE})
    assert kind == "RESOURCE_NOT_DECLARED"
    assert "other" in message


async def test_a_connection_with_names_hands_one_output_to_one_input(gateway: Gateway) -> None:
    builder = steps(a="return {'rows': [1, 2], 'rest': 3}", b="return {'count': len(items), 'names': sorted(locals())}")
    response = await run(gateway, builder.add_connection("a", "rows", "b", "items").build())
    assert output(response, "b") == {"count": 2, "names": ["items"]}


async def test_connections_without_names_hand_on_everything_from_all_steps_before(gateway: Gateway) -> None:
    builder = steps(a="return {'from_a': 1}", b="return {'from_b': from_a + 1}", c="return from_a + from_b")
    builder.add_connection("a", None, "b", None).add_connection("b", None, "c", None)
    assert output(await run(gateway, builder.build()), "c") == 3


async def test_steps_without_any_connection_are_a_chain_in_the_order_they_were_written(gateway: Gateway) -> None:
    builder = steps(last="return {'seen': 1}", middle="return {'more': seen + 1}", first="return [seen, more]")
    assert output(await run(gateway, builder.build()), "first") == [1, 2]


async def test_context_holds_what_the_request_said_of_itself(gateway: Gateway) -> None:
    source = "return [context.get('user'), context.get('absent', 'default'), context.get_variable('user')]"
    assert await step(gateway, source, context={"user": "ada"}) == ["ada", "default", "ada"]


async def test_get_current_context_is_the_same_at_any_depth(gateway: Gateway) -> None:
    source = """
        from torana_server import get_current_context as imported

        def deep():
            return imported().get_variable("user")

        async def task():
            return deep()

        return [get_current_context().get("user"), await asyncio.create_task(task()), await asyncio.to_thread(deep)]
    """
    assert await step(gateway, source, context={"user": "ada"}) == ["ada"] * 3


async def test_workflow_context_keeps_things_between_executions_of_a_workflow(gateway: Gateway) -> None:
    source = """
        workflow_context.runs = getattr(workflow_context, "runs", 0) + 1
        return workflow_context.runs
    """
    assert [await step(gateway, source) for _ in range(3)] == [1, 2, 3]


async def test_the_logger_writes_events_of_the_execution(gateway: Gateway) -> None:
    response = await run(gateway, one("logger.info('hello %s', 'there')\nlogger.debug('too much')\nprint('printed')"))
    assert await log_lines(gateway, response.execution_id) == ["hello there", "printed"]


async def test_time_json_and_asyncpg_are_there_without_an_import_and_with_one(
    gateway: Gateway, databases: Databases
) -> None:
    await databases.make("app")
    await store(gateway)
    source = """
        try:
            await (await get_resource("db")).fetch("SELECT * FROM nowhere")
        except asyncpg.PostgresError as error:
            caught = type(error).__name__
        import json
        return json.dumps([caught, time.time() > 0])
    """
    assert await step(gateway, source, resources={"db": database("app")}) == '["UndefinedTableError", true]'


async def test_a_step_returns_at_its_top_level_or_assigns_result(gateway: Gateway) -> None:
    builder = steps(a="if early:\n    return {'done': 'early'}\nresult = {'done': 'late'}").build()
    assert output(await run(gateway, builder, {"early": True}), "a") == {"done": "early"}
    assert output(await run(gateway, builder, {"early": False}), "a") == {"done": "late"}


async def test_locals_holds_the_inputs_that_were_supplied(gateway: Gateway) -> None:
    source = "return ['given' in locals(), 'absent' in locals(), json.dumps(locals())]"
    assert await step(gateway, source, {"given": 1}) == [True, False, '{"given": 1}']


async def test_a_database_tells_its_size_and_how_much_of_it_is_free(gateway: Gateway, databases: Databases) -> None:
    await databases.make("app")
    await store(gateway)
    reference = ResourceReference("database", {"database": "app", "min_size": 3}, "db_creds")
    source = """
        db = await get_resource("db")
        async with db.acquire():
            return [db.size, db.freesize]
    """
    assert await step(gateway, source, resources={"db": reference}) == [3, 2]


class Ledgers(ResourceResolver):
    """Adds the type `ledger`: a list that knows whose it is."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._resolvers["ledger"] = self._open

    async def _open(self, config: dict[str, Any], credentials: dict[str, Any]) -> list[str]:
        return [f"{config['title']} of {credentials['owner']}"]


async def test_a_resolver_adds_types_whose_objects_are_pooled(folder: object) -> None:
    ledger = {"type": "ledger", "config": {"title": "sales"}, "credentials_ref": "who"}
    source = 'ledger = await get_resource("ledger"); ledger.append("entry"); return list(ledger)'
    async with Gateway(resource_resolver=Ledgers, enable_durability=False) as gateway:
        await gateway.secret_manager.store_secret("who", {"owner": "ada"})
        for entries in (["entry"], ["entry", "entry"]):
            assert await step(gateway, source, resources={"ledger": ledger}) == ["sales of ada", *entries]


async def test_an_object_that_fails_its_health_check_is_made_anew(gateway: Gateway) -> None:
    made: list[dict[str, bool]] = []

    def factory() -> dict[str, bool]:
        made.append({"well": True})
        return made[-1]

    async def health_check(made: dict[str, bool]) -> bool:
        return made["well"]

    gateway.resource_registry.register_factory("fragile", factory, health_check=health_check)
    source = 'return id(await get_resource("fragile"))'
    first = output(await run(gateway, one(source, "fragile")), "step")
    assert output(await run(gateway, one(source, "fragile")), "step") == first
    made[0]["well"] = False
    health = await gateway.health_check()
    assert health["status"] == "degraded"
    assert health["resources"]["fragile"]["status"] == "unhealthy"
    assert output(await run(gateway, one(source, "fragile")), "step") != first
    assert len(made) == 2


async def test_a_resource_of_one_request_is_had_by_its_name_in_the_next(gateway: Gateway, cache: Redis) -> None:
    source = 'return await (await get_resource("c")).incr("count")'
    gateway.register_workflow("promise", one(source, "c"))
    bindings: list[Mapping[str, object] | str] = [CACHE, "@c", "@c"]
    for count, binding in enumerate(bindings, start=1):
        response = await gateway.execute_workflow("promise", WorkflowRequest(resources={"c": binding}))
        assert output(response, "step") == count


PROVIDERS: Mapping[str, object] = {"stripe": {"api_key": "of-stripe"}, "example": "of-example"}


async def test_a_secret_with_one_key_per_provider_gives_each_api_its_own(gateway: Gateway, site: Site) -> None:
    site.answer("GET /", {})
    await gateway.secret_manager.store_secret("api_keys", PROVIDERS)
    resources: dict[str, Mapping[str, object]] = {
        host: {"type": "http_client", "config": {"base_url": f"https://api.{host}.com"}, "credentials_ref": "api_keys"}
        for host in PROVIDERS
    }
    source = "for name in names:\n    await (await get_resource(name)).get('/')"
    await step(gateway, source, {"names": list(PROVIDERS)}, resources=resources)
    sent = {received.host: received.headers["Authorization"] for received in site.received}
    assert sent == {"api.stripe.com": "Bearer of-stripe", "api.example.com": "Bearer of-example"}


async def test_a_provider_the_secret_does_not_know_is_an_error_that_lists_names_and_no_values(
    gateway: Gateway, site: Site
) -> None:
    await gateway.secret_manager.store_secret("api_keys", {"sendgrid": PASSWORD})
    reference = ResourceReference("http_client", {"base_url": "https://api.stripe.com"}, "api_keys")
    kind, message = await failure(gateway, one('await get_resource("api")'), resources={"api": reference})
    assert "CREDENTIALS_NOT_FOUND" in kind
    assert "sendgrid" in message
    assert PASSWORD not in message
    assert site.received == []


TWO_HOSTS = """
http = await get_resource("http")
for host in ("api.example.com", "api.stripe.com"):
    await http.get(f"https://{host}/")
"""


async def test_an_api_key_goes_to_the_hosts_its_secret_allows_and_to_no_other(gateway: Gateway, site: Site) -> None:
    await store(gateway, "api_key")
    reference = ResourceReference("http_client", {"timeout": 10}, "api_key")
    await step(gateway, TWO_HOSTS, resources={"http": reference})
    sent = {received.host: received.headers.get("Authorization") for received in site.received}
    assert sent == {"api.example.com": "Bearer key-of-the-api", "api.stripe.com": None}


async def test_an_api_key_without_any_host_goes_nowhere_and_the_error_says_what_to_do(
    gateway: Gateway, site: Site
) -> None:
    await gateway.secret_manager.store_secret("api_key", {"api_key": PASSWORD})
    reference = ResourceReference("http_client", {"timeout": 10}, "api_key")
    kind, message = await failure(gateway, one(TWO_HOSTS), resources={"http": reference})
    assert kind == "CREDENTIALS_NOT_FOUND"
    assert "allowed_hosts" in message
    assert site.received == []
