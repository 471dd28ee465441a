"""An event loop in which time passes only when nothing else can happen, and then at once."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

from torana_server.core.clock import Micros

EPOCH = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""


class StuckError(RuntimeError):
    """Everything waits for something that can never happen."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping until the next timer is due, sets the loop's time to it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise StuckError("nothing is ready and no timer is set: somebody waits for ever")
        self.loop.jump()
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual_s = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_s

    def jump(self) -> None:
        self._virtual_s = max(self._virtual_s, self._scheduled[0].when())  # type: ignore[attr-defined]  # asyncio's own


class VirtualClock:
    """The wall clock of a VirtualLoop. `shift_s` sets it ahead, or back."""

    def __init__(self) -> None:
        self.shift_s = 0.0

    def now(self) -> Micros:
        return Micros(EPOCH + round((asyncio.get_running_loop().time() + self.shift_s) * 1_000_000))


def simulate(scenario: Awaitable[None]) -> None:
    async def run() -> None:
        await scenario

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def simulated(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        simulate(test(*args, **kwargs))

    return run
