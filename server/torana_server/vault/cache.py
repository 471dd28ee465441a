"""Decrypted secrets, for a while."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from torana_server.core.clock import Micros
from torana_server.vault.secret import Secret

ABSENT_TTL_S = 3.0
"""How long a name is remembered as absent."""
_JITTER = 0.2

Place = tuple[str, str, int | None]
"""(tenant, name, version); version None stands for the latest."""


@dataclass(frozen=True, slots=True)
class Decrypted:
    secret: Secret
    version: int
    expire_time: Micros | None


@dataclass(frozen=True, slots=True)
class _Entry:
    value: Decrypted | None
    until_s: float


class SecretCache:
    """At most `entries_max` places, the least recently used leave first; each for at most `ttl_s` seconds.

    A place is loaded once however many ask for it at the same time. A load that was under way when its name
    was dropped answers those who were waiting and is not kept. With `ttl_s` 0 nothing is kept or shared.
    """

    def __init__(self, ttl_s: float, entries_max: int, monotonic: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._entries_max = entries_max
        self._monotonic = monotonic
        self._entries: OrderedDict[Place, _Entry] = OrderedDict()
        self._loads: dict[Place, asyncio.Task[Decrypted | None]] = {}

    async def get(self, place: Place, load: Callable[[Place], Awaitable[Decrypted | None]]) -> Decrypted | None:
        """What `load(place)` gave or gives; None stands for absent. What `load` raises is not remembered."""
        entry = self._entries.get(place)
        if entry is not None and self._monotonic() < entry.until_s:
            self._entries.move_to_end(place)
            return entry.value
        if self._ttl_s == 0:
            return await load(place)
        task = self._loads.get(place)
        if task is None:
            task = asyncio.create_task(self._load(place, load))
            task.add_done_callback(_retrieve)
            self._loads[place] = task
        return await asyncio.shield(task)

    def drop(self, tenant: str, name: str) -> None:
        for places in (self._entries, self._loads):
            for place in [held for held in places if held[:2] == (tenant, name)]:
                del places[place]

    def clear(self) -> None:
        self._entries.clear()
        self._loads.clear()

    async def _load(self, place: Place, load: Callable[[Place], Awaitable[Decrypted | None]]) -> Decrypted | None:
        task = asyncio.current_task()
        try:
            value = await load(place)
            if self._loads.get(place) is task:
                self._keep(place, value)
            return value
        finally:
            if self._loads.get(place) is task:
                del self._loads[place]

    def _keep(self, place: Place, value: Decrypted | None) -> None:
        # Shortened by chance, never lengthened, so that many replicas do not ask the store at one moment.
        ttl_s = self._ttl_s * random.uniform(1 - _JITTER, 1)  # noqa: S311 — spreads load, guards nothing
        if value is None:
            ttl_s = min(ttl_s, ABSENT_TTL_S)
        self._entries[place] = _Entry(value, self._monotonic() + ttl_s)
        self._entries.move_to_end(place)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)


def _retrieve(task: asyncio.Task[Decrypted | None]) -> None:
    """Marks the error of a load as seen: every waiter gets it, and all of them may have been cancelled."""
    if not task.cancelled():
        task.exception()
