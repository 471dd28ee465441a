"""Everything wrong with a reference, found without IO and all at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from torana_server.core.errors import Violation
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.core.names import did_you_mean
from torana_server.resources.reference import ResourceReference
from torana_server.resources.resource_type import ResourceType

POINTER = "store it with the vault and name the secret in credentials_ref"
HEALTH_CHECK_INTERVAL_S_MIN = 1.0

_CREDENTIAL_KEYS = frozenset({"user", "username", "pwd", "passphrase", "auth", "cookie", "credentials", "bearer"})
_CREDENTIAL_ENDINGS = (
    "password",
    "passwd",
    "token",
    "secret",
    "apikey",
    "accesskey",
    "accesskeyid",
    "secretkey",
    "privatekey",
    "authorization",
)
_CREDENTIAL_VALUE = re.compile(
    r"""^[a-z][a-z0-9+.-]*://[^/?#]*@      # an address with user or password in it
      | ^\s*(bearer|basic)\s+\S            # the value of an Authorization header
      | \b(password|passwd|pwd)\s*=\s*\S   # a connection string
      | -----BEGIN\ [A-Z ]*PRIVATE\ KEY    # PEM
      | [?&](password|api_?key|access_?token|token)=[^&]
    """,
    re.IGNORECASE | re.VERBOSE,
)


def reference_problems(reference: ResourceReference, resource_type: ResourceType[Any, Any]) -> list[Violation]:
    """Paths are relative to the reference: `config.port`, `register_as`."""
    violations = form_problems(reference)
    flagged = {violation.path for violation in violations}
    try:
        parsed_config(reference.config, resource_type)
    except ValidationError as error:
        found = _model_problems(error, resource_type.config_model)
        return violations + [violation for violation in found if violation.path not in flagged]
    except TypeError as error:
        return [*violations, Violation("config", str(error))]
    return violations


def form_problems(reference: ResourceReference) -> list[Violation]:
    """What is wrong whatever the type."""
    return [*_field_problems(reference), *_credential_problems(reference.config, "config")]


def parsed_config(config: Mapping[str, object], resource_type: ResourceType[Any, Any]) -> BaseModel:
    """Raises pydantic's ValidationError."""
    return resource_type.config_model.model_validate(dict(config))


def _field_problems(reference: ResourceReference) -> Iterator[Violation]:
    for path, name in (("credentials_ref", reference.credentials_ref), ("register_as", reference.register_as)):
        if name and not is_name(name):
            yield Violation(path, f"must be {NAME_RULE}")
    if reference.credentials_key and not reference.credentials_ref:
        yield Violation("credentials_key", "chooses an entry of a secret, so credentials_ref must name one")
    interval = reference.health_check_interval_s
    if interval is not None and not (math.isfinite(interval) and interval >= HEALTH_CHECK_INTERVAL_S_MIN):
        yield Violation("health_check_interval_s", f"must be at least {HEALTH_CHECK_INTERVAL_S_MIN:g} s")


def _credential_problems(value: object, path: str) -> Iterator[Violation]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            here = f"{path}.{key}"
            if _is_credential_key(str(key)):
                yield Violation(here, f"looks like a credential, and config holds none: {POINTER}")
            else:
                yield from _credential_problems(item, here)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _credential_problems(item, f"{path}[{index}]")
    elif isinstance(value, str) and _CREDENTIAL_VALUE.search(value):
        yield Violation(path, f"its value holds a credential, and config holds none: {POINTER}")


def _is_credential_key(key: str) -> bool:
    folded = re.sub(r"[^a-z0-9]", "", key.lower())
    return folded in _CREDENTIAL_KEYS or folded.endswith(_CREDENTIAL_ENDINGS)


def _model_problems(error: ValidationError, model: type[BaseModel]) -> list[Violation]:
    violations: dict[str, Violation] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path = _path(detail["loc"], model)
        known = violations.get(path)
        message = _message(detail, model)
        violations[path] = Violation(path, f"{known.message}, or: {message}" if known else message)
    return list(violations.values())


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        names = sorted(model.model_fields)
        return f"unknown setting{did_you_mean(str(detail['loc'][0]), names) or '; known are ' + ', '.join(names)}"
    if detail["type"] == "missing":
        return "required"
    return detail["msg"].removeprefix("Value error, ")


def _path(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """The config path of a pydantic location. The names of union branches, which it adds below a field, are left
    out: only a container's own keys and indices stay."""
    path = "config"
    for depth, part in enumerate(location):
        if isinstance(part, int):
            path += f"[{part}]"
        elif depth == 0 or not _is_branch(part):
            path += f".{part}"
    return path


def _is_branch(part: str) -> bool:
    return part in {"bool", "int", "float", "str", "[key]"} or part.startswith(
        ("literal[", "constrained-", "function-")
    )
