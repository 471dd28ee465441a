"""Executions and their events as embedding code sees them: native values, in the shapes the Python client has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from torana_server.core.clock import Micros, to_datetime
from torana_server.core.values import Payload, decode
from torana_server.execution import TERMINAL_KINDS as TERMINAL_EVENT_KINDS
from torana_server.execution import Event as EngineEvent
from torana_server.execution import (
    EventKind,
    ExecutionError,
    ExecutionRequest,
    ExecutionView,
    LogLevel,
    State,
    StepPhase,
)
from torana_server.resources import Binding, SharedName

KINDS: Final[Mapping[EventKind, str]] = {kind: kind.name.removeprefix("EXECUTION_").lower() for kind in EventKind}
TERMINAL_KINDS: Final = frozenset(KINDS[kind] for kind in TERMINAL_EVENT_KINDS)
"""completed, failed, cancelled: the last events of executions, and their final states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact about an execution.

    `kind` is what happened, such as "step_completed" or "failed". `data` are the facts of that kind as native values:
    `data["output"]` of a step_completed, `["fraction"]` of a step_progress, `["error"]` (an ExecutionError) of a
    step_failed. Events count from `sequence` 1 without gaps; `step` is empty and `attempt` 0 for those of the whole
    execution.
    """

    execution: str
    sequence: int
    time: datetime
    kind: str
    step: str
    attempt: int
    data: Mapping[str, Any]

    @property
    def is_terminal(self) -> bool:
        return self.kind in TERMINAL_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """`state` is "queued", "running", "cancelling", "completed", "failed", "cancelled" or "blocked".

    `result` maps each step that completed so far to its output; in lists it is empty, and `error` is None.
    """

    id: str
    workflow: str
    revision: str
    state: str
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    latest_sequence: int
    labels: Mapping[str, str]
    session_id: str
    idempotency_key: str
    error: ExecutionError | None
    result: dict[str, object]
    retry_of: str
    retried_as: str
    blocked_reason: str

    @property
    def is_finished(self) -> bool:
        return self.state in TERMINAL_KINDS


def native_event(execution: str, event: EngineEvent) -> Event:
    body = event.body
    return Event(
        execution=execution,
        sequence=event.sequence,
        time=to_datetime(event.time),
        kind=KINDS[body.kind],
        step=event.step,
        attempt=event.attempt,
        data={item.name: _native(item.name, getattr(body, item.name)) for item in dataclasses.fields(body)},
    )


def native_execution(view: ExecutionView, steps: Sequence[str]) -> Execution:
    """`steps` in the order of the workflow."""
    summary, state = view.summary, view.state
    return Execution(
        id=summary.execution,
        workflow=summary.workflow,
        revision=summary.revision,
        state=("BLOCKED" if view.blocked_reason else summary.state).lower(),
        create_time=to_datetime(summary.create_time),
        start_time=_time(summary.start_time),
        end_time=_time(summary.end_time),
        latest_sequence=summary.latest_sequence,
        labels=summary.labels,
        session_id=summary.session_id,
        idempotency_key=summary.idempotency_key,
        error=state.error if state is not None else None,
        result=native_result(state, steps),
        retry_of=summary.retry_of,
        retried_as=view.retried_as,
        blocked_reason=view.blocked_reason,
    )


def native_result(state: State | None, steps: Sequence[str]) -> dict[str, object]:
    """The outputs of the steps that completed, in the order of `steps`; none of a state that is not known."""
    if state is None:
        return {}
    places = {name: place for place, name in enumerate(steps)}
    return {
        name: decode(step.output)
        for name, step in sorted(state.steps.items(), key=lambda item: places.get(item[0], len(places)))
        if step.phase is StepPhase.COMPLETED and step.output is not None
    }


def _native(name: str, value: Any) -> Any:
    if isinstance(value, Payload):
        return decode(value)
    if isinstance(value, LogLevel):
        return value.name.lower()
    if isinstance(value, ExecutionRequest):
        return _request(value)
    return _time(value) if name.endswith("_time") else value


def _request(request: ExecutionRequest) -> dict[str, Any]:
    return {
        "workflow": request.workflow,
        "revision": request.revision,
        "parameters": decode(request.parameters),
        "resources": {name: _binding(binding) for name, binding in request.resources.items()},
        "context": decode(request.context),
        "idempotency_key": request.idempotency_key,
        "timeout": None if request.timeout_s is None else timedelta(seconds=request.timeout_s),
        "labels": dict(request.labels),
        "session_id": request.session_id,
        "cancel_on_disconnect": request.cancel_on_disconnect,
        "disconnect_grace": timedelta(seconds=request.disconnect_grace_s) if request.cancel_on_disconnect else None,
    }


def _binding(binding: Binding) -> str | dict[str, Any]:
    """As a WorkflowRequest takes it."""
    return f"@{binding.name}" if isinstance(binding, SharedName) else dataclasses.asdict(binding)


def _time(at: Micros | None) -> datetime | None:
    return None if at is None else to_datetime(at)
