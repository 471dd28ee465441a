"""JSON text for programs. Values that JSON lacks become what every other client sees for them (see docs/api)."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from torana import Event


def event_members(event: Event) -> dict[str, Any]:
    """Execution, sequence, time, kind, step, attempt and the fields of the kind under `data`."""
    return {
        "execution": event.execution,
        "sequence": event.sequence,
        "time": event.time,
        "kind": event.kind,
        "step": event.step,
        "attempt": event.attempt,
        "data": dict(event.data),
    }


def value_json(value: object, indent: int | None = None, *, ascii_only: bool = False) -> str:
    """Raises TypeError for what the client never returns."""
    return json.dumps(value, indent=indent, default=_plain, ensure_ascii=ascii_only, allow_nan=False)


def _plain(value: object) -> Any:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() | UUID():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case set() | frozenset():
            return sorted(value, key=value_json)
        case Mapping():
            return dict(value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        case _:
            raise TypeError(f"a {type(value).__name__} has no JSON form")
