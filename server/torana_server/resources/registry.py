"""Names that resources are shared under: the operator's, and those that requests registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from torana_server.access import LOCAL
from torana_server.core.errors import ConflictError, ExhaustedError, InvalidRequestError, Violation
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.resources.factory import Callback, Callbacks, FactoryType, NoConfig, PoolFactoryType
from torana_server.resources.pool_factory import PoolFactory
from torana_server.resources.reference import ResourceReference, binding_from, same_target
from torana_server.resources.resource_type import ResourceType


@dataclass(frozen=True, slots=True)
class SharedReference:
    """`reference` without `register_as`."""

    name: str
    reference: ResourceReference
    reserved: bool


@dataclass(frozen=True, slots=True)
class SharedObject:
    """An operator's own object, for every tenant. Its name is always reserved."""

    name: str
    type: ResourceType[Any, Any]
    config: BaseModel = field(default_factory=NoConfig)
    credentials: Mapping[str, object] = field(default_factory=dict, repr=False)


Shared = SharedReference | SharedObject


@dataclass(frozen=True, slots=True)
class Registration:
    """A name that the operator's resolver gave to what it was making, and what goes with it."""

    name: str
    health_check: Callback | None
    cleanup: Callback | None


RESOLVING: ContextVar[list[Registration] | None] = ContextVar("torana_resolving", default=None)
"""Set while a function of a ResourceResolver runs: where `register_factory` puts what it is told."""


class ResourceRegistry:
    """Names are local to a tenant, but for the operator's objects, which every tenant sees.

    A name never changes its meaning: registering an equal reference again does nothing, a different one is a conflict.
    Names that were only remembered are the exception: the latest stands, and everything registered stands above them.
    Kept in memory: what requests registered is gone after a restart.
    """

    def __init__(self) -> None:
        self._objects: dict[str, SharedObject] = {}
        self._references: dict[str, dict[str, SharedReference]] = {}
        self._remembered: dict[str, dict[str, SharedReference]] = {}

    def register(
        self,
        name: str,
        reference: ResourceReference | Mapping[str, object],
        *,
        tenant: str = LOCAL.tenant,
        reserved: bool = True,
    ) -> None:
        """`reserved` marks the operator's names. Raises ConflictError (RESOURCE_CONFLICT), and ValueError for a name
        that cannot be one."""
        _require_name(name)
        reference = _reference(reference)
        if self.conflicts(tenant, name, reference):
            raise _conflict(name)
        names = self._references.setdefault(tenant, {})
        known = names.get(name)
        reserved = reserved or (known is not None and known.reserved)
        names[name] = SharedReference(name, replace(reference, register_as=""), reserved)

    def register_all(self, references: Mapping[str, ResourceReference], *, tenant: str, names_max: int) -> None:
        """Registers a request's names, or none of them. Raises ConflictError, and ExhaustedError when the tenant would
        have more than `names_max` names."""
        known = self._references.get(tenant, {})
        if references and len(known.keys() | references.keys()) > names_max:
            raise ExhaustedError(f"The tenant may have {names_max} shared resource names; it has {len(known)}.")
        for name, reference in references.items():
            if self.conflicts(tenant, name, reference):
                raise _conflict(name)
        for name, reference in references.items():
            self.register(name, reference, tenant=tenant, reserved=False)

    def remember(self, tenant: str, references: Mapping[str, ResourceReference], *, names_max: int) -> None:
        """Lets "@name" stand for what a request brought, until another brings something else under that name. The
        oldest are forgotten above `names_max`."""
        names = self._remembered.setdefault(tenant, {})
        for name, reference in references.items():
            names.pop(name, None)
            names[name] = SharedReference(name, replace(reference, register_as=""), reserved=False)
        while len(names) > names_max:
            del names[next(iter(names))]

    def register_factory(
        self,
        name: str,
        factory: object,
        health_check: Callback | None = None,
        cleanup: Callback | None = None,
    ) -> None:
        """An object of the operator's making, shared by all tenants and opened on first use.

        `factory` is a plain or async callable, an object with `create()`, or a `PoolFactory`. `health_check(object)`
        is plain or async and returns False or raises when the object is not well; it is then made anew.
        `cleanup(object)` closes it; without one the object is left to itself, but for that of a PoolFactory. Raises
        ConflictError when any tenant has the name already. Within a ResourceResolver: see there.
        """
        _require_name(name)
        if name in self._objects or any(name in names for names in self._references.values()):
            raise _conflict(name)
        resolving = RESOLVING.get()
        if resolving is not None:
            resolving.append(Registration(name, health_check, cleanup))
            return
        callbacks = Callbacks(health_check, cleanup)
        if isinstance(factory, PoolFactory):
            kind = PoolFactoryType(name, factory, callbacks)
            self._objects[name] = SharedObject(name, kind, factory.config, factory.credentials)
        else:
            self._objects[name] = SharedObject(name, FactoryType(name, factory, callbacks))

    def register_database_pool(
        self, name: str, url: str, *, credentials_ref: str = "", tenant: str = LOCAL.tenant, **config: object
    ) -> None:
        """A `database` reference from `postgresql://host:port/database`; `config` adds the pool's settings.

        Raises ValueError for an address of another form or with user and password in it: they belong to the vault.
        """
        address = urlsplit(url)
        if address.scheme not in {"postgresql", "postgres"} or not address.hostname:
            raise ValueError("a database pool's address has the form postgresql://host:port/database")
        if "@" in address.netloc or address.query:
            raise ValueError("user, password and options have no place in the address; use credentials_ref and config")
        settings = {
            "host": address.hostname,
            "port": address.port or 5432,
            "database": address.path.strip("/"),
            **config,
        }
        self.register(name, ResourceReference("database", settings, credentials_ref), tenant=tenant)

    def get(self, tenant: str, name: str) -> Shared | None:
        """What "@name" stands for."""
        return self.registered(tenant, name) or self._remembered.get(tenant, {}).get(name)

    def registered(self, tenant: str, name: str) -> Shared | None:
        """What was registered under a name on purpose."""
        return self._objects.get(name) or self._references.get(tenant, {}).get(name)

    def conflicts(self, tenant: str, name: str, reference: ResourceReference) -> bool:
        """Whether `name` already means something else in the tenant."""
        known = self.registered(tenant, name)
        if known is None:
            return False
        return isinstance(known, SharedObject) or not same_target(known.reference, reference)

    def shared(self, tenant: str) -> Sequence[Shared]:
        """Everything the tenant can name, by name."""
        names: Mapping[str, Shared] = {
            **self._remembered.get(tenant, {}),
            **self._references.get(tenant, {}),
            **self._objects,
        }
        return [names[name] for name in sorted(names)]


def _require_name(name: str) -> None:
    if not is_name(name):
        raise ValueError(f"a resource name is {NAME_RULE}")


def _reference(value: ResourceReference | Mapping[str, object]) -> ResourceReference:
    binding = binding_from(value)
    if isinstance(binding, ResourceReference):
        return binding
    raise InvalidRequestError(
        "The resource cannot be registered.", violations=[Violation("", "is a name; give the reference itself")]
    )


def _conflict(name: str) -> ConflictError:
    return ConflictError(
        f"The resource name '{name}' already means something else; choose another name or refer to it as '@{name}'.",
        metadata={"resource": name},
    )
