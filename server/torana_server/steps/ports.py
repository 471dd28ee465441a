"""How the engine runs a step without knowing where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torana_server.access import Principal
from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.resources import Binding
from torana_server.workflow import Step


@dataclass(slots=True, kw_only=True)
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
    debug: bool = False
    """Whether lines of the step's log become events whatever their level."""

    def log_fields(self) -> dict[str, object]:
        """What log lines say that are written while the attempt runs."""
        return {
            "tenant": self.principal.tenant,
            "workflow": self.workflow,
            "execution": self.execution,
            "step": self.step.name,
            "attempt": self.attempt,
        }


class StepResult(NamedTuple):
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

    def log(self, level: int, message: str, data: Mapping[str, object] | None = None) -> None:
        """Never waits: a line that does not fit is dropped and counted. `level` as in logging (10, 20, 30, 40).
        `data` is cut where it is long and refused by nothing. Called on the event loop only, as everything here."""


class StepResources(Protocol):
    """The resources of one attempt, leased when first asked for."""

    async def get(self, name: str) -> object:
        """The object bound to `name`, the same one at every call. Raises ResourceError; after `release` StepError."""

    async def release(self) -> None:
        """Returns every lease, those of a `get` still under way included. Idempotent; a resource's own failure to
        go back is the pool's to report and is not raised."""


class ResourceLeases(Protocol):
    """Where attempts get resources from."""

    def open(
        self,
        principal: Principal,
        bindings: Mapping[str, Binding],
        *,
        execution: str,
        step: str,
        attempt: int,
        allowed: frozenset[str] | None,
    ) -> StepResources:
        """Leases nothing yet. `allowed` are the names the step declared; None when it declared none and may have
        any that is bound."""


class StepRunner(Protocol):
    """Runs attempts. May run them anywhere.

    `run` returns the result, or raises: StepError and ResourceError as they are, anything else is the step's own
    failure. CancelledError leaves `run` only when the task that awaits it was cancelled. Leases are returned before
    `run` ends.

    The caller awaits `run` in a task of its own for each attempt. Cancelling that task asks the attempt to stop: an
    `async` step sees the CancelledError itself, in that same task, so one that ignores it keeps `run` from ending.
    The caller waits `cancel_grace_s`, then stops waiting and calls `abandon`. A plain `def` step is waited for no
    longer than `cancel_grace_s` by `run` itself.
    """

    @property
    def cancel_grace_s(self) -> float:
        """How long a cancelled attempt may clean up."""

    async def run(self, call: StepCall, events: StepEvents) -> StepResult: ...

    def abandon(self, call: StepCall) -> None:
        """Gives up on an attempt that ignored its cancellation: its leases are returned at once and all its later
        calls are refused. Does nothing for an attempt that has ended."""

    async def close(self) -> None:
        """Waits for nothing: the engine has ended or cancelled every attempt before."""
