"""Time as the engine sees it. Pure code takes `now` as an argument; everything else asks a `Clock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NewType, Protocol

Micros = NewType("Micros", int)
"""Microseconds since the Unix epoch, UTC. The resolution of every stored time."""

MICROS_PER_SECOND = 1_000_000


class Clock(Protocol):
    """`now()` is wall-clock time and may step; nothing that must not go backwards relies on it alone."""

    def now(self) -> Micros: ...


class SystemClock:
    def now(self) -> Micros:
        return Micros(time.time_ns() // 1000)


def to_datetime(at: Micros) -> datetime:
    return datetime.fromtimestamp(at / MICROS_PER_SECOND, UTC)


def from_datetime(at: datetime) -> Micros:
    """Raises ValueError for a naive datetime: it names no moment."""
    if at.tzinfo is None:
        raise ValueError("a datetime needs a timezone, e.g. datetime.now(timezone.utc)")
    return Micros(round(at.timestamp() * MICROS_PER_SECOND))


def seconds(duration_s: float) -> int:
    """A duration in seconds as microseconds."""
    return round(duration_s * MICROS_PER_SECOND)
