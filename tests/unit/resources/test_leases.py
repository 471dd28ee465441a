from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from torana_server.access import Principal
from torana_server.core.errors import Reason, ResourceError, ResourceNotFoundError, ToranaError
from torana_server.resources import ResourceReference, Resources, ResourceState, SharedName
from unit.resources.things import Outside, Thing, thing, world_of
from unit.resources.world import ALICE, BOB, World, attempt


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def world(outside: Outside) -> World:
    return world_of(outside)


@pytest.fixture
async def resources(world: World) -> AsyncIterator[Resources]:
    resources = world.resources()
    yield resources
    await resources.close()


async def test_a_step_gets_only_what_it_declared_and_is_told_what_it_may_use(resources: Resources) -> None:
    leases = attempt(resources, {"a": thing("a"), "b": thing("b")}, allowed=frozenset({"a", "c"}))
    await leases.get("a")
    with pytest.raises(
        ResourceError, match=r"'b' is not among the step's required_resources; the step can use: a"
    ) as b:
        await leases.get("b")
    with pytest.raises(ResourceError, match="'c' is not bound by the request") as c:
        await leases.get("c")
    assert b.value.reason is c.value.reason is Reason.RESOURCE_NOT_DECLARED


async def test_asking_twice_counts_once_even_at_the_same_time(resources: Resources, outside: Outside) -> None:
    outside.gate = asyncio.Event()
    leases = attempt(resources, {"a": thing("a")})
    asked = [asyncio.create_task(leases.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    outside.gate.set()
    one, two, three = await asyncio.gather(*asked)
    assert one is two is three is await leases.get("a")
    assert (await resources.list(ALICE))[0].leases == 1
    await leases.release()
    await leases.release()
    assert (await resources.list(ALICE))[0].leases == 0


async def test_what_opens_after_the_attempt_ended_is_given_back(resources: Resources, outside: Outside) -> None:
    outside.gate = asyncio.Event()
    leases = attempt(resources, {"a": thing("a")})
    late = asyncio.create_task(leases.get("a"))
    await asyncio.sleep(0)
    await leases.release()
    outside.gate.set()
    with pytest.raises(ResourceError, match="has ended"):
        await late
    with pytest.raises(ResourceError, match="has ended"):
        await leases.get("a")
    assert (await resources.list(ALICE))[0].leases == 0


async def test_a_type_that_fails_or_hangs_to_take_back_does_not_keep_the_lease(outside: Outside) -> None:
    world = world_of(outside, close_timeout_s=0.02)
    kind = type(world.types.get("thing"))

    class Clinging(kind):  # type: ignore[misc, valid-type]
        name = "clinging"

        async def take_back(self, pool: Thing, lent: Thing) -> None:
            if pool.label == "hangs":
                await asyncio.Event().wait()
            raise OSError("no")

    world.types.register(Clinging)
    resources = world.resources()
    bindings = {label: ResourceReference("clinging", {"label": label}) for label in ("hangs", "fails")}
    leases = attempt(resources, bindings)
    for name in bindings:
        await leases.get(name)
    await leases.release()
    assert [status.leases for status in await resources.list(ALICE)] == [0, 0]
    await resources.close()


async def test_a_release_that_is_cancelled_returns_the_rest_in_the_background(outside: Outside) -> None:
    world = world_of(outside)
    kind = type(world.types.get("thing"))
    taking_back = asyncio.Event()

    class Slow(kind):  # type: ignore[misc, valid-type]
        name = "slow"

        async def take_back(self, pool: Thing, lent: Thing) -> None:
            taking_back.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    world.types.register(Slow)
    resources = world.resources()
    leases = attempt(resources, {label: ResourceReference("slow", {"label": label}) for label in "abc"})
    for name in "abc":
        await leases.get(name)
    releasing = asyncio.create_task(leases.release())
    await taking_back.wait()
    releasing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await releasing
    await resources.close()
    assert all(each.closed for each in outside.opened)
    assert [status.leases for status in await resources.list(ALICE)] == []


async def test_one_tenants_pools_are_invisible_to_another(resources: Resources, world: World) -> None:
    await attempt(resources, {"a": thing("a")}).get("a")
    world.registry.register("main", thing("a"), tenant=ALICE.tenant)
    (status,) = await resources.list(ALICE)
    assert (status.name, status.state, status.reserved, status.pool) == (
        "main",
        ResourceState.HEALTHY,
        True,
        {"size": 1},
    )
    assert await resources.list(BOB) == []
    await attempt(resources, {"b": thing("b")}).get("b")
    pool_name = next(each.name for each in await resources.list(ALICE) if each.name != "main")
    for name in ("main", pool_name):
        for ask in (resources.get, resources.check, resources.drain):
            with pytest.raises(ResourceNotFoundError):
                await ask(BOB, name)


async def test_a_registered_name_without_a_pool_is_idle_and_checking_it_opens_nothing(
    resources: Resources, world: World, outside: Outside
) -> None:
    world.registry.register("main", thing("a", "login"), tenant=ALICE.tenant)
    status = await resources.check(ALICE, "main")
    assert (status.state, status.credentials_ref, outside.opened) == (ResourceState.IDLE, "login", [])


async def test_an_operators_object_is_made_once_kept_open_and_replaced_when_ill(world: World) -> None:
    made: list[list[str]] = []
    cleaned: list[object] = []

    class Factory:
        async def create(self) -> list[str]:
            made.append([])
            return made[-1]

    async def is_well(made: list[str]) -> bool:
        return "ill" not in made

    world.registry.register_factory("main", Factory(), health_check=is_well, cleanup=cleaned.append)
    resources = world.resources()
    leases = attempt(resources, {"db": SharedName("main")})
    first = await leases.get("db")
    assert await attempt(resources, {"x": SharedName("main")}, principal=BOB).get("x") is first
    await leases.release()
    world.clock.advance(10_000)
    await resources.sweep()
    assert (await resources.get(ALICE, "main")).state is ResourceState.HEALTHY
    made[0].append("ill")
    status = await resources.check(ALICE, "main")
    assert (status.state, status.leases) == (ResourceState.UNHEALTHY, 0)
    assert await attempt(resources, {"db": SharedName("main")}).get("db") is made[1]
    await resources.close()
    assert sorted(map(id, cleaned)) == sorted(map(id, made))


@pytest.mark.parametrize("factory", [dict, lambda: asyncio.sleep(0, {})])
async def test_factories_may_be_plain_or_async(world: World, factory: object) -> None:
    world.registry.register_factory("main", factory)
    resources = world.resources()
    assert await attempt(resources, {"x": SharedName("main")}).get("x") == {}
    await resources.close()


async def test_draining_what_all_tenants_share_needs_the_admin_role(resources: Resources, world: World) -> None:
    world.registry.register_factory("main", object)
    with pytest.raises(ToranaError) as caught:
        await resources.drain(Principal("acme", "eve"), "main")
    assert caught.value.reason is Reason.PERMISSION_DENIED
    assert (await resources.drain(ALICE, "main")).state is ResourceState.IDLE


async def test_a_shared_name_that_is_gone_is_not_found(resources: Resources) -> None:
    with pytest.raises(ResourceNotFoundError):
        await attempt(resources, {"x": SharedName("gone")}).get("x")


async def test_a_stored_reference_that_fits_no_more_says_what_is_wrong(resources: Resources) -> None:
    with pytest.raises(ResourceError) as caught:
        await attempt(resources, {"x": ResourceReference("thing", {"colour": 1})}).get("x")
    assert [violation.path for violation in caught.value.violations] == ["config.colour"]
