"""Every error the client raises on purpose, in one tree.

ToranaError
├── InvalidRequestError (ValueError)    change the request; every violation is listed
│   └── InvalidWorkflowError            a definition does not compile
├── NotFoundError (LookupError)
│   ├── WorkflowNotFoundError
│   ├── ExecutionNotFoundError
│   ├── ResourceNotFoundError
│   ├── SecretNotFoundError
│   └── TypeNotFoundError               unknown step type or resource type
├── ConflictError                       the name is taken by something different
│   └── IdempotencyConflictError        the key belongs to another request
├── StateError                          right request, wrong moment
│   ├── ResourceNotBoundError
│   ├── ExecutionFinishedError
│   └── ExecutionNotFinishedError
├── EventsExpiredError                  retention removed the events; `execution` holds what remains
├── ExhaustedError                      a limit is reached; try again after `retry_after_s`
│   └── QueueFullError
├── UnavailableError                    no answer now; the outcome is unknown
│   └── ConnectionLostError             reconnecting was given up; `last_sequence` says where to resume
├── DeadlineExceededError (TimeoutError)
├── UnauthenticatedError
├── PermissionDeniedError
├── NotSupportedError                   this server does not offer the feature
├── GapError                            the stream skipped events: a defect of the server
├── InternalError                       a defect of the server; `request_id` finds it in the server's log
└── WorkflowFailedError                 raised by `ExecutionResult.raise_for_status()` only

Programs match on the class or on `reason`, a name of `torana.v1.ErrorReason` without its prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

    from torana._types import Execution, ExecutionResult


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: where, such as `parameters/rows/0`, and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ToranaError(Exception):
    """Base of every deliberate error.

    `reason` is empty when no Torana server gave one, as for a broken connection. `metadata` are string facts for
    programs. `code` is the gRPC status; None for what the client found by itself. `retry_after_s` is the server's
    hint in seconds, if it gave one.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        code: grpc.StatusCode | None = None,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        heading = f"{self.message} [{self.reason}]" if self.reason else self.message
        return "\n".join([heading, *(f"  {violation}" for violation in self.violations)])


class InvalidRequestError(ToranaError, ValueError):
    pass


class InvalidWorkflowError(InvalidRequestError):
    pass


class NotFoundError(ToranaError, LookupError):
    pass


class WorkflowNotFoundError(NotFoundError):
    pass


class ExecutionNotFoundError(NotFoundError):
    pass


class ResourceNotFoundError(NotFoundError):
    pass


class SecretNotFoundError(NotFoundError):
    pass


class TypeNotFoundError(NotFoundError):
    pass


class ConflictError(ToranaError):
    pass


class IdempotencyConflictError(ConflictError):
    pass


class StateError(ToranaError):
    pass


class ResourceNotBoundError(StateError):
    pass


class ExecutionFinishedError(StateError):
    pass


class ExecutionNotFinishedError(StateError):
    pass


class EventsExpiredError(ToranaError):
    """`execution` is the execution as it ended, when the server sent it along."""

    execution: Execution | None = None


class ExhaustedError(ToranaError):
    pass


class QueueFullError(ExhaustedError):
    pass


class UnavailableError(ToranaError):
    pass


class ConnectionLostError(UnavailableError):
    """The execution goes on without the client: `watch(execution_id, after_sequence=last_sequence)` resumes.

    `execution_id` is empty when not even the first connection succeeded.
    """

    execution_id: str = ""
    last_sequence: int = 0


class DeadlineExceededError(ToranaError, TimeoutError):
    pass


class UnauthenticatedError(ToranaError):
    pass


class PermissionDeniedError(ToranaError):
    pass


class NotSupportedError(ToranaError):
    pass


class GapError(ToranaError):
    pass


class InternalError(ToranaError):
    pass


class WorkflowFailedError(ToranaError):
    """The execution failed or was cancelled; `result` is the result it was raised for."""

    def __init__(self, message: str, result: ExecutionResult) -> None:
        super().__init__(message, reason=result.error.reason if result.error else "")
        self.result = result
