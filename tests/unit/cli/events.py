"""Events of an execution as the client hands them out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from torana import Event, ExecutionError, ExecutionResult
from torana.v1 import event_pb2
from torana_server.cli.view import ExecutionView, applied

START = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
EXECUTION = "01a1fc5f-1ef8-7191-b1f0-cfa7603d3135"

DEFAULTS: dict[str, dict[str, Any]] = {
    "accepted": {"request": {"workflow": "etl"}},
    "step_progress": {"fraction": 0.5, "message": "", "data": None},
    "step_log": {"level": "info", "message": "hello", "dropped": 0},
    "step_emitted": {"topic": "rows", "value": {"n": 1}},
    "step_completed": {"output": None, "route": ""},
    "step_skipped": {"reason": "route a was taken"},
    "step_cancelled": {"reason": ""},
    "step_reused": {"execution": "01a1", "sequence": 4, "output": None, "route": ""},
    "cancelling": {"reason": "asked to", "subject": ""},
    "completed": {"outputs": {}},
    "cancelled": {"reason": "", "outputs": {}},
}


def error(message: str = "division by zero", **members: Any) -> ExecutionError:
    known: dict[str, Any] = {
        "type": "ZeroDivisionError",
        "step": "divide",
        "attempt": 1,
        "retryable": True,
        "traceback": "",
        "cause": None,
        "reason": "STEP_FAILED",
        "metadata": {},
    }
    return ExecutionError(message=message, **{**known, **members})


class Script:
    """Makes the events of one execution, numbered, each a tenth of a second after the one before unless `at_s` says."""

    def __init__(self, execution: str = EXECUTION) -> None:
        self.execution = execution
        self.events: list[Event] = []

    def add(self, kind: str, step: str = "", *, attempt: int = 0, at_s: float | None = None, **data: Any) -> Event:
        elapsed_s = len(self.events) / 10 if at_s is None else at_s
        event = Event(
            execution=self.execution,
            sequence=len(self.events) + 1,
            time=START + timedelta(seconds=elapsed_s),
            kind=kind,
            step=step,
            attempt=attempt or (1 if step else 0),
            data={**DEFAULTS.get(kind, {}), **data},
            proto=event_pb2.ExecutionEvent(),
        )
        self.events.append(event)
        return event

    @property
    def view(self) -> ExecutionView:
        view = ExecutionView()
        for event in self.events:
            view = applied(view, event)
        return view


def result(outputs: dict[str, Any], status: str = "completed") -> ExecutionResult:
    return ExecutionResult(execution_id=EXECUTION, status=status, result=outputs, error=None, event_count=9)
