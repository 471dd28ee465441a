"""Operators' own objects as a resource type, so that they are opened, checked and closed like every other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from pydantic import BaseModel

from torana_server.resources.resource_type import ResourceType, TypeConfig


class NoConfig(TypeConfig):
    """Nothing to set."""


class UnhealthyError(Exception):
    """A health check answered no."""


class FactoryType(ResourceType[BaseModel, object]):
    name = "object"
    description = "An object registered by the operator."
    config_model = NoConfig

    def __init__(
        self,
        label: str,
        factory: object,
        health_check: Callable[..., object] | None,
        cleanup: Callable[..., object] | None,
    ) -> None:
        create = getattr(factory, "create", factory)
        if not callable(create):
            raise TypeError(f"the factory of '{label}' must be callable or have a create() method")
        self._label = label
        self._create = create
        self._health_check = health_check
        self._cleanup = cleanup

    async def open(self, config: BaseModel, credentials: Mapping[str, object]) -> object:
        return await _settled(self._create())

    async def check(self, pool: object) -> None:
        if self._health_check is not None and await _settled(self._health_check(pool)) is False:
            raise UnhealthyError("its health check returned False")

    async def close(self, pool: object) -> None:
        if self._cleanup is not None:
            await _settled(self._cleanup(pool))

    def describe(self, config: BaseModel) -> str:
        return f"{self._label}, registered by the operator"


async def _settled(value: object) -> object:
    return await value if inspect.isawaitable(value) else value
