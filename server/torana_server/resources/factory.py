"""Operators' own objects as a resource type, so that they are opened, checked and closed like every other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from torana_server.core.clock import SystemClock
from torana_server.resources.borrowers import Borrower
from torana_server.resources.pool_factory import PoolFactory
from torana_server.resources.resource_type import ResourceType, TypeConfig

Callback = Callable[..., object]
"""A plain or async function of the object."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What an operator wants done with an object. `health_check` returns False or raises when it is not well."""

    health_check: Callback | None = None
    cleanup: Callback | None = None


class NoConfig(TypeConfig):
    """Nothing to set."""


class UnhealthyError(Exception):
    """A health check answered no."""


class FactoryType(ResourceType[BaseModel, object]):
    """Whatever a callable, or an object with `create()`, makes."""

    name = "object"
    description = "An object registered by the operator."
    config_model = NoConfig

    def __init__(self, label: str, factory: object, callbacks: Callbacks) -> None:
        create = getattr(factory, "create", factory)
        if not callable(create):
            raise TypeError(f"the factory of '{label}' must be callable or have a create() method")
        self._label = label
        self._create = create
        self._callbacks = callbacks

    async def open(self, config: BaseModel, credentials: Mapping[str, object]) -> object:
        return await settled(self._create())

    async def check(self, pool: object) -> None:
        await require_healthy(self._callbacks.health_check, pool)

    async def close(self, pool: object) -> None:
        if self._callbacks.cleanup is not None:
            await settled(self._callbacks.cleanup(pool))

    def describe(self, config: BaseModel) -> str:
        return f"{self._label}, registered by the operator"


class PoolFactoryType(ResourceType[Any, Any]):
    """What a `PoolFactory` opens, handled by its own type; the operator's callbacks see it as a step does."""

    def __init__(self, label: str, factory: PoolFactory[Any], callbacks: Callbacks) -> None:
        self._type = factory.type
        self._callbacks = callbacks
        self._borrower = Borrower(label, "", "", "health check", 1, SystemClock())
        self.name = self._type.name
        self.description = self._type.description

    async def open(self, config: Any, credentials: Mapping[str, object]) -> Any:
        return await self._type.open(config, credentials)

    async def check(self, pool: Any) -> None:
        if self._callbacks.health_check is None or self._is_exhausted(pool):
            await self._type.check(pool)
        else:
            await self._call(self._callbacks.health_check, pool)

    async def close(self, pool: Any) -> None:
        try:
            if self._callbacks.cleanup is not None:
                await self._call(self._callbacks.cleanup, pool)
        finally:
            await self._type.close(pool)

    def describe(self, config: Any) -> str:
        return self._type.describe(config)

    def stats(self, pool: Any) -> Mapping[str, int]:
        return self._type.stats(pool)

    def lend(self, pool: Any, borrower: Borrower) -> object:
        return self._type.lend(pool, borrower)

    async def take_back(self, pool: Any, lent: Any) -> None:
        await self._type.take_back(pool, lent)

    def _is_exhausted(self, pool: Any) -> bool:
        """Busy is not unwell, and the operator's check would have to wait for a place."""
        stats = self._type.stats(pool)
        return "in_use" in stats and stats["in_use"] >= stats.get("max_size", 0)

    async def _call(self, callback: Callback, pool: Any) -> None:
        lent = self._type.lend(pool, self._borrower)
        try:
            await require_healthy(callback, lent)
        finally:
            await self._type.take_back(pool, lent)


async def require_healthy(health_check: Callback | None, resource: object) -> None:
    if health_check is not None and await settled(health_check(resource)) is False:
        raise UnhealthyError("its health check returned False")


async def settled(value: object) -> object:
    return await value if inspect.isawaitable(value) else value
