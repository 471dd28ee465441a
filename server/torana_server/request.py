"""What embedding code hands to `Gateway.execute_workflow`, and what it gets back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from torana_server.core.errors import InvalidRequestError, StepError, Violation
from torana_server.core.values import Payload, encode
from torana_server.execution import ExecutionError, ExecutionRequest
from torana_server.resources import Binding, Referring, binding_from


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRequest:
    """`resources` maps a name to a reference, which `torana.database(…)` and its like make, too, the same as a plain
    dict, or "@name" for a shared resource.

    `timeout` is in seconds, or a timedelta. Values are what JSON holds, and datetime, date, time, timedelta, Decimal,
    UUID, bytes, tuples and sets. Raises InvalidRequestError with everything that is of the wrong type.
    """

    parameters: Mapping[str, object] = field(default_factory=dict)
    resources: Mapping[str, Referring | Mapping[str, object] | str] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)
    revision: str = ""
    idempotency_key: str = ""
    timeout: float | timedelta | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""

    def __post_init__(self) -> None:
        violations = list(_violations(self))
        if violations:
            raise InvalidRequestError("The workflow request is not valid.", violations=violations)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResponse:
    """`result` maps each step that completed to its output, in the order of the workflow's steps; also when the
    execution failed."""

    execution_id: str
    status: Literal["completed", "failed", "cancelled"]
    result: dict[str, object]
    error: ExecutionError | None = None

    @property
    def is_success(self) -> bool:
        return self.status == "completed"


def engine_request(name: str, request: WorkflowRequest | None) -> ExecutionRequest:
    """Raises InvalidRequestError for values that cannot be stored and bindings that are none."""
    request = WorkflowRequest() if request is None else request
    if not isinstance(name, str) or not isinstance(request, WorkflowRequest):
        raise InvalidRequestError(
            f"A workflow is run by its name and a WorkflowRequest, not {type(name).__name__} and "
            f"{type(request).__name__}."
        )
    timeout = request.timeout
    return ExecutionRequest(
        workflow=name,
        revision=request.revision,
        parameters=_payload("parameters", request.parameters),
        context=_payload("context", request.context),
        resources={key: _binding(key, value) for key, value in request.resources.items()},
        idempotency_key=request.idempotency_key,
        timeout_s=timeout.total_seconds() if isinstance(timeout, timedelta) else timeout,
        labels=request.labels,
        session_id=request.session_id,
    )


def _payload(path: str, values: Mapping[str, object]) -> Payload:
    try:
        return encode(dict(values))
    except StepError as error:
        raise InvalidRequestError(
            "The workflow request is not valid.",
            reason=error.reason,
            metadata=error.metadata,
            violations=[Violation(path, error.message)],
        ) from None


def _binding(name: str, value: object) -> Binding:
    return binding_from(value, f"resources.{name}")


def _violations(request: WorkflowRequest) -> Iterator[Violation]:
    for name in ("parameters", "resources", "context", "labels"):
        value = getattr(request, name)
        if not isinstance(value, Mapping):
            yield Violation(name, f"must be a mapping, not {type(value).__name__}")
        elif not all(isinstance(key, str) for key in value):
            yield Violation(name, "must have strings for keys")
        elif name == "labels" and not all(isinstance(text, str) for text in value.values()):
            yield Violation(name, "must have strings for values")
    for name in ("revision", "idempotency_key", "session_id"):
        value = getattr(request, name)
        if not isinstance(value, str):
            yield Violation(name, f"must be a string, not {type(value).__name__}")
    timeout = request.timeout
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float | timedelta)):
        yield Violation("timeout", f"must be seconds or a timedelta, not {type(timeout).__name__}")
