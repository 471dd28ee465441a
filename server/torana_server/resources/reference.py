"""References: JSON that says which external thing is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol, runtime_checkable

from torana_server.core.errors import InvalidRequestError, Violation

INVALID_RESOURCES = "Resource references are not valid."


@dataclass(frozen=True, slots=True)
class ResourceReference:
    """`config` is a JSON object checked against the type's model; credentials come from the secret
    `credentials_ref` only. Guides write it with keyword arguments or as a plain dict."""

    type: str
    config: Mapping[str, object] = field(default_factory=dict)
    credentials_ref: str = ""
    credentials_key: str = ""
    register_as: str = ""
    health_check_interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class SharedName:
    """`@name`: a resource registered under a name in the tenant."""

    name: str


Binding = ResourceReference | SharedName


@runtime_checkable
class Referring(Protocol):
    """What has the attributes of a reference, as those have that the client library makes."""

    @property
    def type(self) -> str: ...
    @property
    def config(self) -> Mapping[str, object]: ...
    @property
    def credentials_ref(self) -> str: ...
    @property
    def credentials_key(self) -> str: ...
    @property
    def register_as(self) -> str: ...
    @property
    def health_check_interval_s(self) -> float | None: ...


def canonical_json(value: object) -> str:
    """Equal JSON values give equal text, and only they: keys sorted, `1`, `1.0` and `true` kept apart.

    Raises TypeError or ValueError for what is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def same_target(one: ResourceReference, other: ResourceReference) -> bool:
    """Whether both mean the same thing, whatever name they are to be registered under."""
    return _target(one) == _target(other)


def binding_from(value: object, path: str = "") -> Binding:
    """The binding that a request's JSON stands for: `"@name"`, an object of a reference's fields, a binding itself, or
    what has a reference's attributes.

    Raises InvalidRequestError with all violations, at `path`.
    """
    if isinstance(value, ResourceReference | SharedName):
        return value
    if isinstance(value, Referring):
        value = {item.name: getattr(value, item.name) for item in fields(ResourceReference)}
    if isinstance(value, str):
        if value.startswith("@") and len(value) > 1:
            return SharedName(value[1:])
        raise _invalid([Violation(path, "a resource is an object with 'type' and 'config', or '@' and a shared name")])
    if not isinstance(value, Mapping):
        raise _invalid([Violation(path, f"a resource is an object or '@name', not {type(value).__name__}")])
    violations = list(_field_problems(value, f"{path}." if path else ""))
    if violations:
        raise _invalid(violations)
    return ResourceReference(**value)


def _target(reference: ResourceReference) -> tuple[str, ...]:
    return reference.type, canonical_json(reference.config), reference.credentials_ref, reference.credentials_key


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_TEXT_FIELDS = ("type", "credentials_ref", "credentials_key", "register_as")


def _field_problems(value: Mapping[str, object], prefix: str) -> list[Violation]:
    known = {item.name for item in fields(ResourceReference)}
    violations = [
        Violation(f"{prefix}{name}", f"unknown field; a reference has {', '.join(sorted(known))}")
        for name in value
        if name not in known
    ]
    if "type" not in value:
        violations.append(Violation(f"{prefix}type", "required"))
    violations += [
        Violation(f"{prefix}{name}", "must be a string")
        for name in _TEXT_FIELDS
        if not isinstance(value.get(name, ""), str)
    ]
    if not isinstance(value.get("config", {}), Mapping):
        violations.append(Violation(f"{prefix}config", "must be an object"))
    interval = value.get("health_check_interval_s")
    if interval is not None and (isinstance(interval, bool) or not isinstance(interval, int | float)):
        violations.append(Violation(f"{prefix}health_check_interval_s", "must be a number of seconds"))
    return violations


def _invalid(violations: list[Violation]) -> InvalidRequestError:
    return InvalidRequestError(INVALID_RESOURCES, violations=violations)
