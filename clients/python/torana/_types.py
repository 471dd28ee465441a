"""What the client returns: frozen values named as in `torana.v1`, with times as aware datetimes and timedeltas.

Enums are their lower-case names without the prefix ("running", "healthy"). A time or duration that is not set is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from torana.errors import WorkflowFailedError
from torana.v1 import event_pb2

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """`next_page_token` is empty on the last page."""

    items: tuple[Item, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class BlobReference:
    """Stands for a value that is held out of line because it is above the inline limit."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionError:
    """Why a step or an execution failed. A value, never raised."""

    type: str
    message: str
    step: str
    attempt: int
    retryable: bool
    traceback: str
    cause: ExecutionError | None
    reason: str
    metadata: Mapping[str, str]

    def __str__(self) -> str:
        where = f"step {self.step!r}, attempt {self.attempt}: " if self.step else ""
        return f"{where}{self.type}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact about an execution.

    `kind` is the name of the set field of `ExecutionEvent.kind`, such as "step_completed" or "failed"; "unknown" for
    one this version does not know. `data` holds that message's fields as native values: `data["output"]` of a
    step_completed, `["fraction"]` of a step_progress, `["error"]` (an ExecutionError) of a step_failed. `proto` is
    the event as it was sent. `cursor` is set by `watch_executions` only: resuming from it misses nothing after this
    event and may repeat events that came in the same batch.
    """

    execution: str
    sequence: int
    time: datetime
    kind: str
    step: str
    attempt: int
    data: Mapping[str, Any]
    proto: event_pb2.ExecutionEvent = field(repr=False, compare=False)
    cursor: str = ""

    @property
    def is_terminal(self) -> bool:
        return self.kind in TERMINAL_KINDS


TERMINAL_KINDS = ("completed", "failed", "cancelled")
"""The last event of an execution has one of these kinds; they are also the final states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionResult:
    """How an execution ended.

    `status` is "completed", "failed" or "cancelled". `result` maps each step that completed to its output; it is
    partial unless `is_success`. `event_count` is the number of the execution's events.
    """

    execution_id: str
    status: str
    result: Mapping[str, Any]
    error: ExecutionError | None
    event_count: int

    @property
    def is_success(self) -> bool:
        return self.status == "completed"

    def raise_for_status(self) -> ExecutionResult:
        """Itself when the execution completed; else raises WorkflowFailedError."""
        if self.is_success:
            return self
        outcome = str(self.error) if self.error else "it was cancelled"
        raise WorkflowFailedError(f"execution {self.execution_id} {self.status}: {outcome}", self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """`state` is "pending", "running", "waiting", "completed", "failed", "skipped" or "cancelled"."""

    step: str
    state: str
    attempt: int
    start_time: datetime | None
    end_time: datetime | None
    error: ExecutionError | None
    next_attempt_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """`state` is "queued", "running", "cancelling", "completed", "failed", "cancelled" or "blocked".

    `result` and `steps` are empty in lists.
    """

    id: str
    workflow: str
    revision: str
    state: str
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    latest_sequence: int
    labels: Mapping[str, str]
    session_id: str
    idempotency_key: str
    error: ExecutionError | None
    result: Mapping[str, Any]
    steps: tuple[StepStatus, ...]
    retry_of: str
    retried_as: str
    blocked_reason: str

    @property
    def is_finished(self) -> bool:
        return self.state in TERMINAL_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """`definition` is the JSON form, with every field; None in lists."""

    name: str
    revision: str
    definition: Mapping[str, Any] | None
    required_resources: tuple[str, ...]
    create_time: datetime | None
    description: str
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowProblem:
    path: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowValidation:
    """`revision` and `required_resources` are empty unless `is_valid`."""

    problems: tuple[WorkflowProblem, ...]
    revision: str
    required_resources: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class StepType:
    """`config_schema` is a JSON Schema as JSON text."""

    name: str
    description: str
    config_schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """`config_schema` is a JSON Schema as JSON text."""

    name: str
    description: str
    config_schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """`state` is "idle", "healthy", "unhealthy" or "draining". `pool` holds numbers the type reports."""

    name: str
    type: str
    description: str
    state: str
    leases: int
    check_latency: timedelta | None
    check_time: datetime | None
    last_error: str
    pool: Mapping[str, int]
    credentials_ref: str
    reserved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What may be known of a secret; never its value."""

    name: str
    version: int
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """`state` is "current" (the latest), "superseded" or "expired"."""

    version: int
    state: str
    create_time: datetime | None
    expire_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotation:
    """`rewrapped` counts the tenant keys that were wrapped again by the key `primary_key_id`."""

    rewrapped: int
    primary_key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """`limits` are in the units their names end in."""

    version: str
    title: str
    description: str
    server_id: str
    start_time: datetime | None
    journal: str
    durable: bool
    limits: Mapping[str, int]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentHealth:
    """`status` is "healthy", "degraded" or "unhealthy"."""

    name: str
    status: str
    latency: timedelta | None
    last_error: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """`status` is the worst of what the server cannot do without."""

    status: str
    components: tuple[ComponentHealth, ...]
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """`values` are counters since `since` and gauges of now, in the units their names end in."""

    values: Mapping[str, int]
    since: datetime | None
