"""The facts about an execution. `torana.v1.ExecutionEvent` is their wire and journal form."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.execution.request import ExecutionRequest

JOURNAL_FORMAT = 1
"""Version written by this server. It folds all older ones and claims no newer one."""


class EventKind(enum.IntEnum):
    """Numbers are those of `torana.v1.EventKind` and of the fields of `ExecutionEvent.kind`."""

    EXECUTION_ACCEPTED = 10
    EXECUTION_STARTED = 11
    STEP_SCHEDULED = 12
    STEP_STARTED = 13
    STEP_PROGRESS = 14
    STEP_LOG = 15
    STEP_EMITTED = 16
    STEP_CHECKPOINTED = 17
    STEP_RETRYING = 18
    STEP_COMPLETED = 19
    STEP_FAILED = 20
    STEP_SKIPPED = 21
    STEP_CANCELLED = 22
    STEP_REUSED = 23
    EXECUTION_RECOVERED = 24
    EXECUTION_CANCELLING = 25
    EXECUTION_COMPLETED = 26
    EXECUTION_FAILED = 27
    EXECUTION_CANCELLED = 28


TERMINAL_KINDS = frozenset({EventKind.EXECUTION_COMPLETED, EventKind.EXECUTION_FAILED, EventKind.EXECUTION_CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionError:
    """Why a step or an execution failed. `type` is the exception's class or the reason."""

    type: str
    message: str
    reason: str
    step: str = ""
    attempt: int = 0
    retryable: bool = False
    traceback: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    cause: ExecutionError | None = None

    def __str__(self) -> str:
        where = f"step {self.step!r}, attempt {self.attempt}: " if self.step else ""
        return f"{where}{self.type}: {self.message}"


class LogLevel(enum.IntEnum):
    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4


@dataclass(frozen=True, slots=True)
class Accepted:
    kind: ClassVar = EventKind.EXECUTION_ACCEPTED
    request: ExecutionRequest
    revision: str
    tenant: str
    subject: str
    retry_of: str = ""
    journal_format: int = JOURNAL_FORMAT


@dataclass(frozen=True, slots=True)
class Started:
    kind: ClassVar = EventKind.EXECUTION_STARTED


@dataclass(frozen=True, slots=True)
class StepScheduled:
    kind: ClassVar = EventKind.STEP_SCHEDULED


@dataclass(frozen=True, slots=True)
class StepStarted:
    kind: ClassVar = EventKind.STEP_STARTED


@dataclass(frozen=True, slots=True)
class StepProgress:
    kind: ClassVar = EventKind.STEP_PROGRESS
    fraction: float
    message: str = ""
    data: Payload | None = None


@dataclass(frozen=True, slots=True)
class StepLog:
    kind: ClassVar = EventKind.STEP_LOG
    level: LogLevel
    message: str
    dropped: int = 0
    data: Payload | None = None


@dataclass(frozen=True, slots=True)
class StepEmitted:
    kind: ClassVar = EventKind.STEP_EMITTED
    topic: str
    value: Payload


@dataclass(frozen=True, slots=True)
class StepCheckpointed:
    kind: ClassVar = EventKind.STEP_CHECKPOINTED
    value: Payload


@dataclass(frozen=True, slots=True)
class StepRetrying:
    kind: ClassVar = EventKind.STEP_RETRYING
    error: ExecutionError
    next_attempt_time: Micros


@dataclass(frozen=True, slots=True)
class StepCompleted:
    kind: ClassVar = EventKind.STEP_COMPLETED
    output: Payload
    route: str = ""


@dataclass(frozen=True, slots=True)
class StepFailed:
    kind: ClassVar = EventKind.STEP_FAILED
    error: ExecutionError
    handled: bool = False


@dataclass(frozen=True, slots=True)
class StepSkipped:
    kind: ClassVar = EventKind.STEP_SKIPPED
    reason: str


@dataclass(frozen=True, slots=True)
class StepCancelled:
    kind: ClassVar = EventKind.STEP_CANCELLED
    reason: str


@dataclass(frozen=True, slots=True)
class StepReused:
    kind: ClassVar = EventKind.STEP_REUSED
    execution: str
    sequence: int
    output: Payload
    route: str = ""


@dataclass(frozen=True, slots=True)
class Recovered:
    kind: ClassVar = EventKind.EXECUTION_RECOVERED
    by: str


@dataclass(frozen=True, slots=True)
class Cancelling:
    kind: ClassVar = EventKind.EXECUTION_CANCELLING
    reason: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Completed:
    kind: ClassVar = EventKind.EXECUTION_COMPLETED
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Failed:
    kind: ClassVar = EventKind.EXECUTION_FAILED
    error: ExecutionError
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Cancelled:
    kind: ClassVar = EventKind.EXECUTION_CANCELLED
    reason: str
    outputs: Mapping[str, int]


Body = (
    Accepted
    | Started
    | StepScheduled
    | StepStarted
    | StepProgress
    | StepLog
    | StepEmitted
    | StepCheckpointed
    | StepRetrying
    | StepCompleted
    | StepFailed
    | StepSkipped
    | StepCancelled
    | StepReused
    | Recovered
    | Cancelling
    | Completed
    | Failed
    | Cancelled
)


class Event(NamedTuple):
    """One fact. `sequence` counts from 1 without gaps; `time` never decreases within an execution."""

    sequence: int
    time: Micros
    step: str
    attempt: int
    body: Body
