from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest

from torana_server.core.errors import ConflictError, InvalidRequestError, ResourceError, ResourceNotFoundError
from torana_server.resources import (
    Binding,
    ResourceReference,
    ResourceRegistry,
    ResourceResolver,
    Resources,
    ResourceSettings,
    ResourceState,
    ResourceTypes,
    SharedName,
)
from unit.resources.world import ALICE, BOB, FakeClock, Secrets, attempt


@dataclass(eq=False)
class Queue:
    broker: str
    credentials: dict[str, Any] = field(repr=False)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    well: bool = True

    async def close(self) -> None:
        self.closed.set()


class QueueResolver(ResourceResolver):
    """The shape that the guides give a resolver."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resolvers["message_queue"] = self._resolve_message_queue
        self.opened: list[Queue] = []

    async def _resolve_message_queue(self, config: dict[str, Any], credentials: dict[str, Any]) -> Queue:
        queue = Queue(config["broker"], credentials)
        self.opened.append(queue)
        name = config.get("queue_name")
        if name:
            self.resource_registry.register_factory(f"mq_{name}", lambda: queue, health_check=lambda made: made.well)
        return queue


@pytest.fixture
def registry() -> ResourceRegistry:
    return ResourceRegistry()


@pytest.fixture
def resolver(registry: ResourceRegistry) -> QueueResolver:
    return QueueResolver(registry)


@pytest.fixture
def secrets() -> Secrets:
    secrets = Secrets()
    secrets.put(ALICE, "login", {"user": "u", "password": "canary-pw"})
    secrets.put(BOB, "login", {"user": "u", "password": "canary-pw"})
    return secrets


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def resources(
    registry: ResourceRegistry, resolver: QueueResolver, secrets: Secrets, clock: FakeClock
) -> AsyncIterator[Resources]:
    made = Resources(
        registry,
        ResourceTypes.standard(),
        secrets,
        resolver=resolver,
        clock=clock,
        settings=ResourceSettings(),
        redact=lambda text: text,
    )
    yield made
    await made.close()


def queue(name: str = "", **fields: str) -> ResourceReference:
    config = {"broker": "amqp.example.com"} | ({"queue_name": name} if name else {})
    return ResourceReference("message_queue", config, **fields)  # type: ignore[arg-type]


async def test_a_reference_of_an_own_type_is_valid_listed_and_resolved_once_for_all_that_are_equal(
    resources: Resources, resolver: QueueResolver
) -> None:
    assert resources.problems(queue("orders")) == []
    assert "message_queue" in resources.types.names()
    first = await attempt(resources, {"q": queue()}).get("q")
    second = await attempt(resources, {"other": queue()}).get("other")
    assert first is second is resolver.opened[0]
    (status,) = await resources.list(ALICE)
    assert (status.type, status.leases, status.state) == ("message_queue", 2, ResourceState.HEALTHY)


async def test_it_gets_its_config_and_the_whole_secret_or_the_entry_that_was_chosen(
    resources: Resources, resolver: QueueResolver, secrets: Secrets
) -> None:
    secrets.put(ALICE, "many", {"east": {"user": "e"}, "west": "plain"})
    for reference in (
        queue(),
        queue(credentials_ref="login"),
        queue(credentials_ref="many", credentials_key="east"),
        queue(credentials_ref="many", credentials_key="west"),
    ):
        await attempt(resources, {"q": reference}).get("q")
    assert [made.credentials for made in resolver.opened] == [
        {},
        {"user": "u", "password": "canary-pw"},
        {"user": "e"},
        {"token": "plain"},
    ]


async def test_tenants_share_nothing(resources: Resources, resolver: QueueResolver) -> None:
    reference = queue("orders", credentials_ref="login")
    mine = await attempt(resources, {"q": reference}).get("q")
    theirs = await attempt(resources, {"q": reference}, principal=BOB).get("q")
    assert mine is not theirs
    assert len(resolver.opened) == 2


async def test_it_is_closed_when_nobody_used_it_for_long_and_made_anew_after_that(
    resources: Resources, resolver: QueueResolver, clock: FakeClock
) -> None:
    leases = attempt(resources, {"q": queue("orders")})
    await leases.get("q")
    await leases.release()
    clock.advance(301)
    await resources.sweep()
    await resolver.opened[0].closed.wait()
    assert await attempt(resources, {"q": queue("orders")}).get("q") is resolver.opened[1]


async def test_a_name_registered_while_resolving_stands_for_the_same_object_in_the_tenant(
    resources: Resources, resolver: QueueResolver, clock: FakeClock
) -> None:
    leases = attempt(resources, {"q": queue("orders")})
    made = await leases.get("q")
    bound = resources.bind(ALICE, {"x": SharedName("mq_orders")}, [])
    again = attempt(resources, bound)
    assert await again.get("x") is made
    for held in (leases, again):
        await held.release()
    clock.advance(301)
    await resources.sweep()
    assert await attempt(resources, bound).get("x") is resolver.opened[1]
    with pytest.raises(ResourceNotFoundError):
        resources.bind(BOB, {"x": SharedName("mq_orders")}, [])


async def test_its_health_check_goes_with_the_name(resources: Resources, resolver: QueueResolver) -> None:
    await attempt(resources, {"q": queue("orders")}).get("q")
    await resources.check_all(ALICE)
    assert (await resources.get(ALICE, "mq_orders")).state is ResourceState.HEALTHY
    resolver.opened[0].well = False
    await resources.check_all(ALICE)
    assert (await resources.get(ALICE, "mq_orders")).state is ResourceState.UNHEALTHY
    await attempt(resources, {"q": queue("orders")}).get("q")
    assert len(resolver.opened) == 2


async def test_an_operators_name_is_not_taken_by_a_resolver(resources: Resources, registry: ResourceRegistry) -> None:
    registry.register_factory("mq_orders", object)
    with pytest.raises(ResourceError, match="already means something else"):
        await attempt(resources, {"q": queue("orders")}).get("q")
    with pytest.raises(ConflictError):
        registry.register_factory("mq_orders", object)


async def test_config_that_is_no_json_and_credentials_in_it_are_refused(resources: Resources) -> None:
    (no_json,) = resources.problems(ResourceReference("message_queue", {"broker": object()}))
    (credential,) = resources.problems(ResourceReference("message_queue", {"password": "canary"}))
    assert (no_json.path, credential.path) == ("config.broker", "config.password")


async def test_an_error_of_a_resolver_names_the_resource_and_hides_the_credentials(
    resources: Resources, resolver: QueueResolver
) -> None:
    def refuse(config: dict[str, Any], credentials: dict[str, Any]) -> object:
        raise OSError(f"login {credentials['password']} refused")

    resolver._resolvers["refusing"] = refuse
    with pytest.raises(ResourceError, match=r"Resource 'q' .* login \[redacted\] refused"):
        await attempt(resources, {"q": ResourceReference("refusing", {}, "login")}).get("q")


async def test_an_own_type_stands_above_a_built_in_one(resources: Resources, resolver: QueueResolver) -> None:
    resolver._resolvers["cache"] = lambda config, credentials: {"mine": config}
    got = await attempt(resources, {"c": ResourceReference("cache", {"any": 1})}).get("c")
    assert got == {"mine": {"any": 1}}


@pytest.mark.parametrize(
    "reference",
    [
        ResourceReference("database", {"host": "db.example.com"}, credentials_ref="login"),
        ResourceReference("database", {"no such": "setting"}),
        ResourceReference("nothing of the kind", {}),
    ],
)
@pytest.mark.parametrize("on", ["object", "class"])
async def test_a_patched_resolve_gives_its_object_for_every_reference_and_opens_nothing(
    resources: Resources, resolver: QueueResolver, reference: ResourceReference, on: str
) -> None:
    fake = object()
    with patch.object(resolver if on == "object" else QueueResolver, "resolve", return_value=fake):
        bound = resources.bind(ALICE, {"db": reference}, ["db"], share_inline=True)
        leases = attempt(resources, bound)
        assert await leases.get("db") is await leases.get("db") is fake
        await leases.release()
    assert await resources.list(ALICE) == []


async def test_a_patched_resolve_takes_no_credentials_in_config(resources: Resources, resolver: QueueResolver) -> None:
    with patch.object(resolver, "resolve"), pytest.raises(InvalidRequestError, match="looks like a credential"):
        resources.bind(ALICE, {"db": ResourceReference("database", {"password": "x"})}, [])


async def test_a_resolver_may_wrap_what_it_leases(registry: ResourceRegistry) -> None:
    class Wrapping(QueueResolver):
        async def resolve(self, reference: Binding, lease: Callable[[], Awaitable[object]]) -> object:
            return ["wrapped", await lease()]

    resolver = Wrapping(registry)
    resources = Resources(
        registry,
        ResourceTypes.standard(),
        Secrets(),
        resolver=resolver,
        clock=FakeClock(),
        settings=ResourceSettings(),
        redact=lambda text: text,
    )
    leases = attempt(resources, {"q": queue()})
    one, two = await asyncio.gather(leases.get("q"), leases.get("q"))
    assert one is two
    assert one == ["wrapped", resolver.opened[0]]
    assert (await resources.list(ALICE))[0].leases == 1
    await leases.release()
    assert (await resources.list(ALICE))[0].leases == 0
    with pytest.raises(InvalidRequestError, match="unknown resource type"):
        resources.bind(ALICE, {"x": ResourceReference("nothing of the kind")}, [])
    await resources.close()
    assert resolver.opened[0].closed.is_set()
