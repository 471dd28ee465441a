from __future__ import annotations

import asyncio

from torana_server.testing import FakeCache, virtual_time


async def test_it_behaves_as_redis_does() -> None:
    async with FakeCache() as cache:
        await cache.set("key", "value")
        await cache.lpush("list", "a", "b")
        assert await cache.get("key") == b"value"
        assert await cache.lrange("list", 0, -1) == [b"b", b"a"]
        async with cache.pipeline() as pipe:
            pipe.incr("count")
            pipe.incr("count")
            assert await pipe.execute() == [1, 2]


async def test_replies_are_texts_when_asked_for() -> None:
    async with FakeCache(decode_responses=True) as cache:
        await cache.set("key", "value")
        assert await cache.get("key") == "value"


async def test_each_has_data_of_its_own() -> None:
    async with FakeCache() as one, FakeCache() as other:
        await one.set("key", "value")
        assert await other.get("key") is None


async def test_keys_expire_in_virtual_time() -> None:
    async with virtual_time() as clock, FakeCache() as cache:
        await cache.set("key", "value", ex=3_600)
        await clock.advance(3_599)
        assert await cache.ttl("key") == 1
        await asyncio.sleep(2)
        assert await cache.get("key") is None
