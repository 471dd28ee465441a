"""What the engine answers."""

from __future__ import annotations

from dataclasses import dataclass

from torana_server.execution.ports import Summary
from torana_server.execution.state import State


@dataclass(frozen=True, slots=True)
class StartedExecution:
    """`attached`: the idempotency key was known, nothing was started."""

    summary: Summary
    attached: bool


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """One execution. `state` is None when retention removed its events."""

    summary: Summary
    state: State | None
    retried_as: str = ""
    blocked_reason: str = ""
