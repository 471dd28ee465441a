"""Names that resources are shared under: the operator's, and those that requests registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from torana_server.access import LOCAL
from torana_server.core.errors import ConflictError, ExhaustedError
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.resources.factory import FactoryType
from torana_server.resources.reference import ResourceReference, same_target


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
    type: FactoryType


Shared = SharedReference | SharedObject


class ResourceRegistry:
    """Names are local to a tenant, but for the operator's objects, which every tenant sees.

    A name never changes its meaning: registering an equal reference again does nothing, a different one is a conflict.
    Kept in memory: what requests registered is gone after a restart.
    """

    def __init__(self) -> None:
        self._objects: dict[str, SharedObject] = {}
        self._references: dict[str, dict[str, SharedReference]] = {}

    def register(
        self,
        name: str,
        reference: ResourceReference,
        *,
        tenant: str = LOCAL.tenant,
        reserved: bool = True,
    ) -> None:
        """`reserved` marks the operator's names. Raises ConflictError (RESOURCE_CONFLICT), and ValueError for a name
        that cannot be one."""
        _require_name(name)
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

    def register_factory(
        self,
        name: str,
        factory: object,
        health_check: Callable[..., object] | None = None,
        cleanup: Callable[..., object] | None = None,
    ) -> None:
        """An object of the operator's making, shared by all tenants and opened on first use.

        `factory` is a plain or async callable, or an object with `create()`. `health_check(object)` is plain or async
        and returns False or raises when the object is not well; it is then made anew. `cleanup(object)` closes it;
        without one the object is left to itself. Raises ConflictError when any tenant has the name already.
        """
        _require_name(name)
        if name in self._objects or any(name in names for names in self._references.values()):
            raise _conflict(name)
        self._objects[name] = SharedObject(name, FactoryType(name, factory, health_check, cleanup))

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
        return self._objects.get(name) or self._references.get(tenant, {}).get(name)

    def conflicts(self, tenant: str, name: str, reference: ResourceReference) -> bool:
        """Whether `name` already means something else in the tenant."""
        known = self.get(tenant, name)
        if known is None:
            return False
        return isinstance(known, SharedObject) or not same_target(known.reference, reference)

    def shared(self, tenant: str) -> Sequence[Shared]:
        """Everything the tenant can name, by name."""
        names: Mapping[str, Shared] = {**self._references.get(tenant, {}), **self._objects}
        return [names[name] for name in sorted(names)]


def _require_name(name: str) -> None:
    if not is_name(name):
        raise ValueError(f"a resource name is {NAME_RULE}")


def _conflict(name: str) -> ConflictError:
    return ConflictError(
        f"The resource name '{name}' already means something else; choose another name or refer to it as '@{name}'.",
        metadata={"resource": name},
    )
