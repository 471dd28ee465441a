"""The resource types of this server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from torana_server.core.errors import ConflictError, Reason, TypeNotFoundError
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.core.names import did_you_mean
from torana_server.resources.resolver import Resolve, ResolverType
from torana_server.resources.resource_type import ResourceType
from torana_server.resources.types.cache import CacheType
from torana_server.resources.types.database import DatabaseType
from torana_server.resources.types.http_client import HttpClientType

ENTRY_POINT_GROUP = "torana.resource_types"

TypeClass = type[ResourceType[Any, Any]]


class ResourceTypes:
    """Types by name. Built-in, installed and operators' own types come in by the same `register`."""

    def __init__(self) -> None:
        self._types: dict[str, ResourceType[Any, Any]] = {}
        self._resolvers: Mapping[str, Resolve] = {}
        self._resolver_types: dict[str, ResolverType] = {}

    @classmethod
    def standard(cls) -> ResourceTypes:
        """The built-in types and those that installed packages offer as entry points of `torana.resource_types`."""
        types = cls()
        for type_class in (DatabaseType, HttpClientType, CacheType):
            types.register(type_class)
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            types.register(entry_point.load())
        return types

    def register(self, type_class: TypeClass) -> None:
        """Raises ValueError for a name that cannot be one, ConflictError for a name that is taken."""
        name = type_class.name
        if not is_name(name):
            raise ValueError(f"the resource type {type_class.__name__} needs a name: {NAME_RULE}")
        known = self._types.get(name)
        if known is not None and type(known) is not type_class:
            raise ConflictError(
                f"The resource type '{name}' is {type(known).__name__} already; rename {type_class.__name__}.",
                metadata={"resourceType": name},
            )
        self._types[name] = type_class()

    def use(self, resolvers: Mapping[str, Resolve]) -> None:
        """Makes the functions of a ResourceResolver types, above all others. What is added to them later counts."""
        self._resolvers = resolvers

    def get(self, name: str) -> ResourceType[Any, Any]:
        """Raises TypeNotFoundError (RESOURCE_TYPE_NOT_FOUND), which suggests the nearest name."""
        found = self._resolver_type(name) or self._types.get(name)
        if found is None:
            hint = did_you_mean(name, self.names()) or f"; known are {', '.join(self.names())}"
            raise TypeNotFoundError(
                f"unknown resource type '{name}'{hint}",
                reason=Reason.RESOURCE_TYPE_NOT_FOUND,
                metadata={"resourceType": name},
            )
        return found

    def names(self) -> Sequence[str]:
        """Sorted."""
        return sorted(self._types.keys() | self._resolvers.keys())

    def _resolver_type(self, name: str) -> ResolverType | None:
        resolve = self._resolvers.get(name)
        if resolve is None:
            return None
        known = self._resolver_types.get(name)
        if known is None or known.resolve != resolve:
            known = self._resolver_types[name] = ResolverType(name, resolve)
        return known
