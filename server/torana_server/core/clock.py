"""Time as the engine sees it. Pure code takes `now` as an argument; everything else asks a `Clock`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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


_idle = ContextVar("idle", default=False)


@contextmanager
def idle() -> Iterator[None]:
    """Marks a pause between two looks around: what waits within it, in this task, waits for no moment in particular.

    Time that jumps from timer to timer passes over such a pause. Only await within: a task that is made there would
    carry the mark on.
    """
    marked = _idle.set(True)
    try:
        yield
    finally:
        _idle.reset(marked)


def is_idle() -> bool:
    """Whether the caller is within `idle`."""
    return _idle.get()


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
