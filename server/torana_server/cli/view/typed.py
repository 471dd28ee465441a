"""Values with the types that JSON lacks told beside them, as in `torana.v1.Payload`: nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_NAMES: tuple[tuple[type, str], ...] = (
    (datetime, "datetime"),
    (date, "date"),
    (time, "time"),
    (timedelta, "timedelta"),
    (Decimal, "decimal"),
    (UUID, "uuid"),
    (bytes, "bytes"),
    (tuple, "tuple"),
    (set, "set"),
    (frozenset, "set"),
)
"""A datetime is also a date: the more particular type comes first."""


def with_types(members: Mapping[str, Any]) -> dict[str, Any]:
    """`members`, and under `types` the JSON pointer of each value that is no JSON, to the name of its type."""
    types = dict(_types(members, ""))
    return {**members, "types": types} if types else dict(members)


def _types(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    name = next((name for kind, name in _NAMES if isinstance(value, kind)), "")
    if name:
        yield pointer, name
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _types(member, f"{pointer}/{_escaped(str(key))}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _types(item, f"{pointer}/{place}")


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
