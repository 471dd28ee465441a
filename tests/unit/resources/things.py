"""A resource type that behaves, without a server: it opens, fails, hangs and falls ill on command."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field

from torana_server.resources import ResourceReference, ResourceType, TypeConfig
from unit.resources.world import World

CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("CALLER", default="nobody")


class ThingConfig(TypeConfig):
    label: str = "x"
    size: int = 1


@dataclass(eq=False)
class Thing:
    label: str
    credentials: Mapping[str, object] = field(repr=False)
    opened_by: str
    closed: bool = False


@dataclass
class Outside:
    """The state of the world that things live in."""

    opened: list[Thing] = field(default_factory=list)
    error: Exception | None = None
    sick: bool = False
    gate: asyncio.Event | None = None
    hangs_on_close: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)


def thing_type(outside: Outside) -> type[ResourceType[ThingConfig, Thing]]:
    class ThingType(ResourceType[ThingConfig, Thing]):
        name = "thing"
        description = "A thing."
        config_model = ThingConfig
        credential_fields = frozenset({"password"})
        plain_credential = "password"

        async def open(self, config: ThingConfig, credentials: Mapping[str, object]) -> Thing:
            if outside.gate is not None:
                await outside.gate.wait()
            if outside.error is not None:
                raise outside.error
            thing = Thing(config.label, credentials, CALLER.get())
            outside.opened.append(thing)
            return thing

        async def check(self, pool: Thing) -> None:
            if outside.sick:
                raise OSError(f"connection lost, password was {pool.credentials.get('password')}")

        async def close(self, pool: Thing) -> None:
            if outside.hangs_on_close:
                await asyncio.Event().wait()
            pool.closed = True
            outside.closed.set()

        def describe(self, config: ThingConfig) -> str:
            return config.label

        def stats(self, pool: Thing) -> Mapping[str, int]:
            return {"size": 1}

    return ThingType


def world_of(outside: Outside, **settings: float) -> World:
    world = World.with_settings(**settings)
    world.types.register(thing_type(outside))
    return world


def thing(label: str = "x", credentials_ref: str = "", **fields: str | float) -> ResourceReference:
    return ResourceReference("thing", {"label": label}, credentials_ref, **fields)  # type: ignore[arg-type]
