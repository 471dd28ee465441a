"""References to the things a workflow needs: what to open, and the name of the secret that opens it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torana._native import from_native
from torana.errors import InvalidRequestError, Violation
from torana.v1 import resource_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceReference:
    """Holds no credentials, only the name of a secret (`credentials_ref`).

    `credentials_key` picks one entry of a secret that holds several. `register_as` also shares the resource under
    that name in the tenant. `health_check_interval_s` is in seconds; None is the server's default.
    """

    type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    credentials_ref: str = ""
    credentials_key: str = ""
    register_as: str = ""
    health_check_interval_s: float | None = None


Binding = ResourceReference | Mapping[str, Any] | str
"""What a request binds to a name: a reference, a mapping with the same fields, or "@name" of a shared resource."""


def database(
    *,
    host: str | None = None,
    port: int | None = None,
    database: str | None = None,
    credentials_ref: str = "",
    register_as: str = "",
    health_check_interval_s: float | None = None,
    **config: Any,
) -> ResourceReference:
    """A PostgreSQL pool. `config` takes what the server's type `database` knows, such as `max_size` or `ssl`."""
    return ResourceReference(
        type="database",
        config=_given(host=host, port=port, database=database, **config),
        credentials_ref=credentials_ref,
        register_as=register_as,
        health_check_interval_s=health_check_interval_s,
    )


def http_client(
    *,
    base_url: str | None = None,
    credentials_ref: str = "",
    credentials_key: str = "",
    register_as: str = "",
    health_check_interval_s: float | None = None,
    **config: Any,
) -> ResourceReference:
    """An HTTP session. `config` takes what the server's type `http_client` knows, such as `timeout` or `headers`."""
    return ResourceReference(
        type="http_client",
        config=_given(base_url=base_url, **config),
        credentials_ref=credentials_ref,
        credentials_key=credentials_key,
        register_as=register_as,
        health_check_interval_s=health_check_interval_s,
    )


def cache(
    *,
    host: str | None = None,
    port: int | None = None,
    credentials_ref: str = "",
    register_as: str = "",
    health_check_interval_s: float | None = None,
    **config: Any,
) -> ResourceReference:
    """A Redis or Valkey client. `config` takes what the server's type `cache` knows, such as `db` or `ssl`."""
    return ResourceReference(
        type="cache",
        config=_given(host=host, port=port, **config),
        credentials_ref=credentials_ref,
        register_as=register_as,
        health_check_interval_s=health_check_interval_s,
    )


def binding(bound: Binding, path: str) -> resource_pb2.ResourceBinding:
    """Raises InvalidRequestError with the path of what does not fit."""
    match bound:
        case str() if bound.startswith("@") and len(bound) > 1:
            return resource_pb2.ResourceBinding(shared=bound[1:])
        case ResourceReference():
            members: Mapping[str, Any] = {
                "type": bound.type,
                "config": bound.config,
                "credentials_ref": bound.credentials_ref,
                "credentials_key": bound.credentials_key,
                "register_as": bound.register_as,
                "health_check_interval_s": bound.health_check_interval_s,
            }
        case Mapping():
            members = bound
        case _:
            message = 'must be a ResourceReference, a mapping with its fields, or "@name" for a shared resource'
            violation = Violation(path, message)
            raise InvalidRequestError("the request cannot be sent", reason="INVALID_REQUEST", violations=[violation])
    reference = from_native(resource_pb2.ResourceReference, members, path)
    return resource_pb2.ResourceBinding(reference=reference)


def _given(**config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}
