"""Every error Torana raises on purpose, in one tree.

ToranaError
├── InvalidRequestError          the caller must change the request (lists every violation)
│   └── InvalidWorkflowError     a definition does not compile
├── NotFoundError (LookupError)
│   ├── WorkflowNotFoundError
│   ├── ExecutionNotFoundError
│   ├── ResourceNotFoundError    also a ResourceError
│   ├── SecretNotFoundError
│   └── TypeNotFoundError        unknown step type or resource type
├── ConflictError                the name or key is taken by something different
├── StateError                   right request, wrong moment (finished, in use, draining …)
├── EventsExpiredError           retention removed the events
├── ExhaustedError               a limit of this server is reached; try again later
├── UnavailableError             the server or its store cannot answer now; the outcome may be unknown
├── ResourceError (ValueError)   a reference or a live resource failed
│   └── ResourceNotBoundError    nobody said what a required resource is
├── StepError                    a step failed for a reason the engine knows (`INPUT_NOT_FOUND` …)
├── VaultError                   the vault cannot be opened or a record does not authenticate
└── StaleAppendError             an append lost its ownership; never reaches a caller

Each error has a `Reason`, which is what programs match on; messages are for people and say what to do.
`torana.v1.ErrorReason` mirrors `Reason` (a test holds them equal); `rpc/status.py` gives each its code.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class Reason(enum.StrEnum):
    """Machine-readable reasons, the names of `torana.v1.ErrorReason` without its prefix."""

    # the request
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_WORKFLOW = "INVALID_WORKFLOW"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 — a reason, not a password
    INVALID_FILTER = "INVALID_FILTER"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    # not found
    WORKFLOW_NOT_FOUND = "WORKFLOW_NOT_FOUND"
    EXECUTION_NOT_FOUND = "EXECUTION_NOT_FOUND"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    SECRET_NOT_FOUND = "SECRET_NOT_FOUND"  # noqa: S105 — a reason, not a password
    STEP_TYPE_NOT_FOUND = "STEP_TYPE_NOT_FOUND"
    RESOURCE_TYPE_NOT_FOUND = "RESOURCE_TYPE_NOT_FOUND"
    # conflict and state
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    RESOURCE_CONFLICT = "RESOURCE_CONFLICT"
    RESOURCE_NOT_BOUND = "RESOURCE_NOT_BOUND"
    EXECUTION_FINISHED = "EXECUTION_FINISHED"
    EXECUTION_NOT_FINISHED = "EXECUTION_NOT_FINISHED"
    EVENTS_EXPIRED = "EVENTS_EXPIRED"
    SEQUENCE_OUT_OF_RANGE = "SEQUENCE_OUT_OF_RANGE"
    # load and availability
    QUEUE_FULL = "QUEUE_FULL"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    JOURNAL_UNAVAILABLE = "JOURNAL_UNAVAILABLE"
    JOURNAL_IN_USE = "JOURNAL_IN_USE"
    SERVER_DRAINING = "SERVER_DRAINING"
    # steps and resources
    INPUT_NOT_FOUND = "INPUT_NOT_FOUND"
    VALUE_TOO_LARGE = "VALUE_TOO_LARGE"
    VALUE_NOT_STORABLE = "VALUE_NOT_STORABLE"
    TOO_MANY_EVENTS = "TOO_MANY_EVENTS"
    TEMPLATE_ERROR = "TEMPLATE_ERROR"
    STEP_FAILED = "STEP_FAILED"
    STEP_TIMEOUT = "STEP_TIMEOUT"
    STEP_INTERRUPTED = "STEP_INTERRUPTED"
    EXECUTION_TIMEOUT = "EXECUTION_TIMEOUT"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    RESOURCE_NOT_DECLARED = "RESOURCE_NOT_DECLARED"
    RESOURCE_UNAVAILABLE = "RESOURCE_UNAVAILABLE"
    RESOURCE_POOL_EXHAUSTED = "RESOURCE_POOL_EXHAUSTED"
    CREDENTIALS_NOT_FOUND = "CREDENTIALS_NOT_FOUND"
    # access and vault
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    VAULT_SEALED = "VAULT_SEALED"
    SECRET_CORRUPT = "SECRET_CORRUPT"  # noqa: S105 — a reason, not a password
    # none of the caller's business
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request or definition: where (`steps[2].config.url`) and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ToranaError(Exception):
    """Base of every deliberate error.

    `message` says what was wrong and what to do; it never holds a secret, driver text or a server path.
    `metadata` are short string facts for programs, keyed in lowerCamelCase (AIP-193).
    `retry_after_s` is set when trying again later can help.
    """

    default_reason: Reason = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        if not self.violations:
            return self.message
        return "\n".join([self.message, *(f"  {violation}" for violation in self.violations)])


class InvalidRequestError(ToranaError, ValueError):
    default_reason = Reason.INVALID_REQUEST


class InvalidWorkflowError(InvalidRequestError):
    default_reason = Reason.INVALID_WORKFLOW


class NotFoundError(ToranaError, LookupError):
    pass


class WorkflowNotFoundError(NotFoundError):
    default_reason = Reason.WORKFLOW_NOT_FOUND


class ExecutionNotFoundError(NotFoundError):
    default_reason = Reason.EXECUTION_NOT_FOUND


class SecretNotFoundError(NotFoundError):
    default_reason = Reason.SECRET_NOT_FOUND


class TypeNotFoundError(NotFoundError):
    default_reason = Reason.STEP_TYPE_NOT_FOUND


class ConflictError(ToranaError):
    default_reason = Reason.RESOURCE_CONFLICT


class StateError(ToranaError):
    default_reason = Reason.EXECUTION_FINISHED


class EventsExpiredError(ToranaError):
    default_reason = Reason.EVENTS_EXPIRED


class ExhaustedError(ToranaError):
    default_reason = Reason.QUEUE_FULL


class UnavailableError(ToranaError):
    default_reason = Reason.JOURNAL_UNAVAILABLE


class ResourceError(ToranaError, ValueError):
    default_reason = Reason.RESOURCE_UNAVAILABLE


class ResourceNotBoundError(ResourceError):
    default_reason = Reason.RESOURCE_NOT_BOUND


class ResourceNotFoundError(NotFoundError, ResourceError):
    default_reason = Reason.RESOURCE_NOT_FOUND


class StepError(ToranaError):
    """A step failed for a reason the engine knows. `retryable` says whether another attempt can help."""

    default_reason = Reason.STEP_FAILED

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        retryable: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retryable = retryable


class VaultError(ToranaError):
    default_reason = Reason.VAULT_SEALED


class StaleAppendError(ToranaError):
    """This process no longer owns the execution, or appended from an old state. Internal: never reaches a caller."""

    default_reason = Reason.INTERNAL
