"""Scenarios in virtual time, from a fixed moment, on a loop whose own time begins at 0."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from torana_server.core.clock import Micros, to_datetime
from torana_server.testing.virtual_time import StuckError, run_in_virtual_time

__all__ = ["EPOCH", "StuckError", "VirtualClock", "simulate", "simulated"]

EPOCH = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""


class VirtualClock:
    """The wall clock of a simulated server. `shift_s` sets it ahead, or back."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now(self) -> Micros:
        return Micros(EPOCH + round((asyncio.get_running_loop().time() + self.shift_s) * 1_000_000))


def simulate(scenario: Coroutine[Any, Any, None]) -> None:
    run_in_virtual_time(scenario, start=to_datetime(Micros(EPOCH)))


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        simulate(test(*args, **kwargs))

    return run
