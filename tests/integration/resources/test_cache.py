from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from integration.conftest import ValkeyAddress, free_port
from torana_server.core.errors import Reason, ResourceError
from torana_server.resources import ResourceReference, Resources, ResourceState
from unit.resources.world import ALICE, World, attempt


@pytest.fixture
async def world(valkey: ValkeyAddress) -> World:
    world = World()
    world.secrets.put(ALICE, "login", {"password": valkey.password})
    return world


@pytest.fixture
async def resources(world: World) -> AsyncIterator[Resources]:
    resources = world.resources()
    yield resources
    await resources.close()


def reference(valkey: ValkeyAddress, **config: object) -> ResourceReference:
    return ResourceReference("cache", {"host": valkey.host, "port": valkey.port, **config}, credentials_ref="login")


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # the guides' call goes on working
async def test_a_step_uses_the_client_as_the_guides_do(resources: Resources, valkey: ValkeyAddress) -> None:
    leases = attempt(resources, {"cache": reference(valkey, decode_responses=True)})
    cache: Any = await leases.get("cache")
    assert isinstance(cache, redis.asyncio.Redis)
    await cache.setex("user:1", 3600, "ada")
    assert await cache.get("user:1") == "ada"
    async with cache.pipeline() as pipeline:
        pipeline.lpush("log", "a", "b")
        pipeline.ltrim("log", 0, 0)
        await pipeline.execute()
    assert await cache.lrange("log", 0, -1) == ["b"]
    await leases.release()


async def test_what_a_step_left_open_is_closed_with_it_and_the_client_refuses_further_use(
    resources: Resources, valkey: ValkeyAddress
) -> None:
    leases = attempt(resources, {"cache": reference(valkey, max_connections=2)})
    cache: Any = await leases.get("cache")
    subscription = cache.pubsub()
    await subscription.subscribe("news")
    await cache.connection_pool.get_connection()
    await leases.release()
    with pytest.raises(ResourceError, match="has ended"):
        await cache.get("x")
    other = attempt(resources, {"cache": reference(valkey, max_connections=2)}, step="next")
    again: Any = await other.get("cache")
    assert await again.ping() is True
    assert (await resources.list(ALICE))[0].pool == {"max_size": 2, "in_use": 0}
    await other.release()


async def test_closing_the_client_in_a_step_leaves_the_shared_pool_open(
    resources: Resources, valkey: ValkeyAddress
) -> None:
    one = attempt(resources, {"cache": reference(valkey)})
    two = attempt(resources, {"cache": reference(valkey)}, step="next")
    closing: Any = await one.get("cache")
    other: Any = await two.get("cache")
    await closing.aclose()
    await closing.connection_pool.aclose()
    assert await other.ping() is True
    await one.release()
    await two.release()


async def test_exhaustion_names_the_resource_its_size_and_who_holds_it(
    resources: Resources, valkey: ValkeyAddress
) -> None:
    small = reference(valkey, max_connections=1, acquire_timeout=0.05)
    slow = attempt(resources, {"main": small}, step="slow", execution="execution-slow")
    holder: Any = await slow.get("main")
    subscription = holder.pubsub()
    await subscription.subscribe("news")
    late = attempt(resources, {"cache": small}, step="late")
    cache: Any = await late.get("cache")
    with pytest.raises(ResourceError) as caught:
        await cache.get("x")
    assert caught.value.reason is Reason.RESOURCE_POOL_EXHAUSTED
    assert "'cache': all 1 connections" in str(caught.value)
    assert "execution execution-slow step 'slow'" in str(caught.value)
    assert (await resources.check(ALICE, (await resources.list(ALICE))[0].name)).state is ResourceState.HEALTHY
    await subscription.aclose()
    await slow.release()
    await late.release()


async def unavailable(resources: Resources, wanted: ResourceReference) -> ResourceError:
    with pytest.raises(ResourceError) as caught:
        async with asyncio.timeout(5):
            await attempt(resources, {"cache": wanted}).get("cache")
    assert caught.value.reason is Reason.RESOURCE_UNAVAILABLE
    return caught.value


async def test_a_wrong_password_is_unavailable_and_is_not_repeated(
    world: World, resources: Resources, valkey: ValkeyAddress
) -> None:
    world.secrets.put(ALICE, "login", {"username": "canary-user", "password": "canary-wrong"})
    assert "canary" not in str(await unavailable(resources, reference(valkey)))


async def test_a_server_that_is_down_is_unavailable_at_once(resources: Resources, valkey: ValkeyAddress) -> None:
    assert "ConnectionError" in str(await unavailable(resources, reference(valkey, port=free_port())))


async def test_an_unknown_host_is_unavailable(resources: Resources, valkey: ValkeyAddress) -> None:
    assert "nowhere.invalid" in str(await unavailable(resources, reference(valkey, host="nowhere.invalid")))


async def test_a_server_that_accepts_and_says_nothing_is_unavailable_after_the_timeout(
    resources: Resources, valkey: ValkeyAddress
) -> None:
    async def keep_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(keep_open, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    await unavailable(resources, reference(valkey, port=port, timeout=0.1, connect_timeout=0.1))
    silent.close()


async def test_no_repr_of_a_cache_shows_its_credentials(resources: Resources, valkey: ValkeyAddress) -> None:
    leases = attempt(resources, {"cache": reference(valkey)})
    cache: Any = await leases.get("cache")
    shared = cache.connection_pool._pool
    parts = (cache, cache.connection_pool, shared, shared.client, shared.connections)
    shown = [*(repr(part) for part in parts), str(cache.get_connection_kwargs())]
    assert not [text for text in shown if valkey.password in text]
    await leases.release()
