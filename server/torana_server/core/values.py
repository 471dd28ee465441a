"""JSON values and the types JSON lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Payload:
    """One value as it is stored and sent: exact JSON text, and the types JSON lacks beside it.

    `types` maps JSON pointer patterns (RFC 6901; `*` stands for every element of an array, "" is the whole value) to
    datetime, date, time, timedelta, decimal, uuid, bytes, tuple or set.
    """

    json: str
    types: Mapping[str, str] = field(default_factory=dict)
