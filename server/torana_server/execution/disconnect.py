"""`cancel_on_disconnect`: an execution whose callers are all gone for its grace is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

FIRST_ATTACH_S = 5.0
"""A caller has this long to attach at first, however short its grace is."""


@dataclass(slots=True)
class _Guarded:
    grace_s: float
    expired: Callable[[], None]
    attached: int
    timer: asyncio.TimerHandle | None = None

    def arm(self, after_s: float) -> None:
        self.timer = asyncio.get_running_loop().call_later(after_s, self.expired)

    def disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class DisconnectGuard:
    """Counts the streams attached to the executions that asked for it."""

    def __init__(self) -> None:
        self._guarded: dict[str, _Guarded] = {}

    def guard(self, execution: str, grace_s: float, expired: Callable[[], None], *, attached: int) -> None:
        """From now on `expired` is called once nobody has been attached for `grace_s`. `attached` are so already."""
        guarded = self._guarded[execution] = _Guarded(grace_s, expired, attached)
        if not attached:
            guarded.arm(max(grace_s, FIRST_ATTACH_S))

    def attached(self, execution: str) -> None:
        guarded = self._guarded.get(execution)
        if guarded is not None:
            guarded.attached += 1
            guarded.disarm()

    def detached(self, execution: str) -> None:
        guarded = self._guarded.get(execution)
        if guarded is None:
            return
        guarded.attached -= 1
        if not guarded.attached:
            guarded.arm(guarded.grace_s)

    def forget(self, execution: str) -> None:
        guarded = self._guarded.pop(execution, None)
        if guarded is not None:
            guarded.disarm()
