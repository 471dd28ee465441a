"""How the engine runs a step without knowing where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torana_server.access import Principal
from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.resources import Binding
from torana_server.workflow import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One attempt of one step, complete: nothing in it is shared with another attempt.

    `config` and `inputs` are rendered and freshly decoded native values that the attempt may keep and change.
    """

    principal: Principal
    execution: str
    workflow: str
    revision: str
    step: Step
    attempt: int
    config: dict[str, object]
    inputs: dict[str, object]
    context: dict[str, object]
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    deadline: Micros | None = None
    idempotency_key: str = ""
    restored: Payload | None = None
    """The last checkpoint of an earlier attempt."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """`route` is the route a switch took."""

    output: Payload
    route: str = ""


class StepEvents(Protocol):
    """What a running attempt may write to its execution. After the attempt has ended every call raises StepError."""

    async def progress(self, fraction: float, message: str, data: Payload | None) -> None:
        """Returns once the event is in the execution's bounded buffer; waits while that is full."""

    async def emit(self, topic: str, value: Payload) -> None:
        """As `progress`."""

    async def checkpoint(self, value: Payload) -> None:
        """Returns when durable."""

    def log(self, level: int, message: str) -> None:
        """Never waits: a line that does not fit is dropped and counted. `level` as in logging (10, 20, 30, 40)."""


class StepRunner(Protocol):
    """Runs attempts. May run them anywhere.

    `run` returns the result, or raises: StepError and ResourceError as they are, anything else is the step's own
    failure. Cancelling the coroutine asks the attempt to stop and gives it `cancel_grace_s` to clean up; `run` then
    ends, whether the attempt did or not, and an abandoned attempt's late result and calls are refused.
    Leases are returned before `run` ends.
    """

    async def run(self, call: StepCall, events: StepEvents) -> StepResult: ...

    async def close(self) -> None:
        """Waits for nothing: the engine has ended or cancelled every attempt before."""
