from __future__ import annotations

import asyncio

import pytest

from torana_server.vault import Secret
from torana_server.vault.cache import ABSENT_TTL_S, Decrypted, Place, SecretCache


class Time:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Source:
    """Answers loads when told to, and counts them."""

    def __init__(self) -> None:
        self.value: Decrypted | None = decrypted(1)
        self.loads: list[Place] = []
        self.started: asyncio.Queue[Place] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, place: Place) -> Decrypted | None:
        self.loads.append(place)
        self.started.put_nowait(place)
        value = self.value
        await self.gate.wait()
        return value


def decrypted(version: int) -> Decrypted:
    return Decrypted(Secret(b'{"n":%d}' % version), version, None)


LATEST: Place = ("a", "db", None)


async def test_a_kept_value_is_not_loaded_again_until_its_time_is_up() -> None:
    time, source = Time(), Source()
    cache = SecretCache(100, 10, time)
    await cache.get(LATEST, source.load)
    time.now_s = 79.9  # the shortest life after jitter is 80
    await cache.get(LATEST, source.load)
    assert len(source.loads) == 1
    time.now_s = 100.0  # the longest
    await cache.get(LATEST, source.load)
    assert len(source.loads) == 2


async def test_lifetimes_are_spread_and_never_longer_than_asked_for() -> None:
    cache = SecretCache(100, 1_000, Time())
    for n in range(200):
        await cache.get(("a", f"s{n}", None), Source().load)
    lifetimes = {entry.until_s for entry in cache._entries.values()}
    assert all(80 <= lifetime <= 100 for lifetime in lifetimes)
    assert len(lifetimes) > 100


async def test_absence_is_remembered_for_seconds_only() -> None:
    time, source = Time(), Source()
    source.value = None
    cache = SecretCache(300, 10, time)
    assert await cache.get(LATEST, source.load) is None
    assert await cache.get(LATEST, source.load) is None
    assert len(source.loads) == 1
    time.now_s = ABSENT_TTL_S
    source.value = decrypted(1)
    assert await cache.get(LATEST, source.load) == decrypted(1)


async def test_many_askers_share_one_load() -> None:
    source = Source()
    source.gate.clear()
    cache = SecretCache(300, 10, Time())
    askers = [asyncio.create_task(cache.get(LATEST, source.load)) for _ in range(50)]
    await source.started.get()
    source.gate.set()
    assert await asyncio.gather(*askers) == [decrypted(1)] * 50
    assert len(source.loads) == 1


async def test_a_cancelled_asker_leaves_the_load_to_the_others() -> None:
    source = Source()
    source.gate.clear()
    cache = SecretCache(300, 10, Time())
    first, second = (asyncio.create_task(cache.get(LATEST, source.load)) for _ in range(2))
    await source.started.get()
    first.cancel()
    source.gate.set()
    assert await second == decrypted(1)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_dropped_name_is_loaded_again_and_others_stay() -> None:
    source = Source()
    cache = SecretCache(300, 10, Time())
    places: list[Place] = [LATEST, ("a", "db", 1), ("a", "other", None), ("b", "db", None)]
    for place in places:
        await cache.get(place, source.load)
    cache.drop("a", "db")
    for place in places:
        await cache.get(place, source.load)
    assert source.loads == [*places, LATEST, ("a", "db", 1)]


async def test_a_load_from_before_a_drop_is_not_kept() -> None:
    source = Source()
    source.gate.clear()
    cache = SecretCache(300, 10, Time())
    early = asyncio.create_task(cache.get(LATEST, source.load))
    await source.started.get()
    cache.drop("a", "db")
    source.value = decrypted(2)
    late = asyncio.create_task(cache.get(LATEST, source.load))
    await source.started.get()
    source.gate.set()
    assert (await early, await late) == (decrypted(1), decrypted(2))
    assert await cache.get(LATEST, source.load) == decrypted(2)
    assert len(source.loads) == 2


async def test_the_least_recently_used_leaves_first() -> None:
    source = Source()
    cache = SecretCache(300, 2, Time())
    one, two, three = (("a", name, None) for name in ("one", "two", "three"))
    for place in (one, two, one, three, one, two):
        await cache.get(place, source.load)
    assert source.loads == [one, two, three, two]


async def test_zero_keeps_nothing() -> None:
    source = Source()
    cache = SecretCache(0, 10, Time())
    await cache.get(LATEST, source.load)
    await cache.get(LATEST, source.load)
    assert len(source.loads) == 2


async def test_a_failed_load_is_everyones_error_and_is_tried_again() -> None:
    async def fail(place: Place) -> Decrypted | None:
        raise ZeroDivisionError

    cache = SecretCache(300, 10, Time())
    errors = await asyncio.gather(*(cache.get(LATEST, fail) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 3
    assert await cache.get(LATEST, Source().load) == decrypted(1)
