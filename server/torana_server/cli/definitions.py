"""Definitions as the client gives them and as files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from torana_server.workflow import Definition, from_form

UNTOUCHED = ("config", "inputs", "labels")
"""What the author wrote: empty values in it mean something."""
REQUIRED = ("name", "type", "steps")


def definition_of(members: Mapping[str, Any]) -> Definition:
    """From the members of a WorkflowDefinition, in which every field is there whether or not it was set."""
    return from_form(_form(members))


def _form(members: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in members.items() if not _is_unset(name, value)}
    return {name: value if name in UNTOUCHED else _value(value) for name, value in given.items()}


def _value(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return _form(value)
        case list() | tuple():
            return [_value(item) for item in value]
        case _:
            return value


def _is_unset(name: str, value: Any) -> bool:
    """A plain number that is not set is 0 in a message; fields that say whether they are set keep their 0."""
    if name in REQUIRED:
        return False
    return value in (None, "", [], {}, (), "unspecified") or (value == 0 and name != "jitter")
