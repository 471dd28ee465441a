"""How operators teach the server to make things of their own from references."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from pydantic import ConfigDict, JsonValue, RootModel

from torana_server.resources.factory import require_healthy, settled
from torana_server.resources.reference import Binding, canonical_json
from torana_server.resources.registry import RESOLVING, Registration, ResourceRegistry
from torana_server.resources.resource_type import ResourceType

Resolve = Callable[[dict[str, Any], dict[str, Any]], Awaitable[object] | object]
"""From a reference's config and its credentials to the live object."""
_DESCRIPTION_CHARS_MAX = 200


class ResourceResolver:
    """From a reference to the object a step gets. Every lease of every step goes through `resolve`.

    A subclass adds types: an entry of `_resolvers` maps the `type` of references to a function, usually a method, that
    takes their `config` and the `credentials` of their secret (both fresh dicts, the second empty without
    `credentials_ref`) and returns the live object. Such objects are pooled, leased, counted, kept apart by tenant and
    closed (`aclose()`, or `close()`) like all others.

    A function that calls `self.resource_registry.register_factory(name, …)` gives the object it is making a shared
    name in the tenant: "@name" then stands for the same reference. `health_check` and `cleanup` go with it.

    `Gateway(resource_resolver=…)` takes such a class, or an instance.
    """

    def __init__(self, resource_registry: ResourceRegistry | None = None, secret_manager: Any = None) -> None:
        """What is left out, the gateway supplies."""
        self.resource_registry: Any = resource_registry
        self.secret_manager: Any = secret_manager
        self._resolvers: dict[str, Resolve] = {}

    async def resolve(self, reference: Binding, lease: Callable[[], Awaitable[object]]) -> object:
        """The object that a step gets for `reference`. `lease` leases it from the pools, where it is opened if need be;
        the attempt gives the lease back when it ends.

        A subclass may wrap that, or return something else. A test that puts another function in its place, with
        `patch.object(resolver, "resolve", …)`, answers for references of every type: only their form is then checked
        before an execution starts.
        """
        return await lease()

    @property
    def own_types(self) -> Mapping[str, Resolve]:
        return self._resolvers

    @property
    def is_replaced(self) -> bool:
        """Whether `resolve` is not what its class defines, but was put in its place, on the object or the class."""
        return "resolve" in vars(self) or not isinstance(type(self).resolve, FunctionType)


class AnyConfig(RootModel[dict[str, JsonValue]]):
    """Whatever JSON object the operator's function understands."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


@dataclass(slots=True, eq=False)
class Resolved:
    resource: object = field(repr=False)
    registrations: tuple[Registration, ...] = ()


class ResolverType(ResourceType[AnyConfig, Resolved]):
    """The resource type that a function of a `ResourceResolver` stands for."""

    description = "Made by the operator's resource resolver."
    config_model = AnyConfig
    credential_fields = None
    plain_credential = "token"

    def __init__(self, name: str, resolve: Resolve) -> None:
        self.name = name
        self.resolve = resolve

    async def open(self, config: AnyConfig, credentials: Mapping[str, object]) -> Resolved:
        registrations: list[Registration] = []
        token = RESOLVING.set(registrations)
        try:
            resource = await settled(self.resolve(config.model_dump(mode="json"), dict(credentials)))
        finally:
            RESOLVING.reset(token)
        return Resolved(resource, tuple(registrations))

    async def check(self, pool: Resolved) -> None:
        for registration in pool.registrations:
            await require_healthy(registration.health_check, pool.resource)

    async def close(self, pool: Resolved) -> None:
        cleanups = [entry.cleanup for entry in pool.registrations if entry.cleanup is not None]
        if cleanups:
            for cleanup in cleanups:
                await settled(cleanup(pool.resource))
            return
        close = getattr(pool.resource, "aclose", None) or getattr(pool.resource, "close", None)
        if inspect.isroutine(close):
            await settled(close())

    def describe(self, config: AnyConfig) -> str:
        return canonical_json(config.model_dump(mode="json"))[:_DESCRIPTION_CHARS_MAX]

    def lend(self, pool: Resolved, borrower: object) -> object:
        return pool.resource
