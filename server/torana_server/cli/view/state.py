"""What a terminal shows of an execution: a fold of its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from torana import Event, ExecutionError

FINISHED_STEPS = ("completed", "failed", "skipped", "cancelled", "reused")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """`state` is "scheduled", "running", "retrying" or one of FINISHED_STEPS. `fraction` is None until told."""

    name: str
    state: str = "scheduled"
    attempt: int = 1
    fraction: float | None = None
    message: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED_STEPS

    def elapsed_s(self, now: datetime) -> float | None:
        if self.start_time is None:
            return None
        return max(0.0, ((self.end_time or now) - self.start_time).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionView:
    """`state` is "running", "cancelling", "completed", "failed" or "cancelled"; empty before the first event.

    `steps` stand in the order in which they appeared. Times are the server's.
    """

    execution: str = ""
    workflow: str = ""
    state: str = ""
    steps: Mapping[str, StepView] = field(default_factory=dict)
    start_time: datetime | None = None
    latest_time: datetime | None = None
    event_count: int = 0
    error: ExecutionError | None = None

    @property
    def elapsed_s(self) -> float:
        if self.start_time is None or self.latest_time is None:
            return 0.0
        return max(0.0, (self.latest_time - self.start_time).total_seconds())


def applied(view: ExecutionView, event: Event) -> ExecutionView:
    """The view after an event. A kind that is not known changes the counts alone."""
    seen = replace(
        view,
        execution=event.execution,
        start_time=view.start_time or event.time,
        latest_time=event.time,
        event_count=max(view.event_count, event.sequence),
    )
    if event.step:
        step = _step(view.steps.get(event.step) or StepView(name=event.step), event)
        return replace(seen, steps={**view.steps, event.step: step})
    change = _EXECUTION_CHANGES.get(event.kind)
    return replace(seen, **change(event)) if change else seen


def _step(step: StepView, event: Event) -> StepView:
    change = _STEP_CHANGES.get(event.kind)
    return replace(step, attempt=max(event.attempt, 1), **(change(step, event) if change else {}))


Changes = Mapping[str, Any]


def _started(step: StepView, event: Event) -> Changes:
    return {"state": "running", "start_time": step.start_time or event.time, "fraction": None, "message": ""}


def _progressed(step: StepView, event: Event) -> Changes:
    fraction = min(max(event.data["fraction"], 0.0), 1.0)
    return {"fraction": fraction, "message": event.data["message"] or step.message}


def _retrying(step: StepView, event: Event) -> Changes:
    error: ExecutionError = event.data["error"]
    return {"state": "retrying", "message": f"{error.type}: {error.message}", "fraction": None}


def _completed(step: StepView, event: Event) -> Changes:
    return {"state": "completed", "end_time": event.time, "fraction": None if step.fraction is None else 1.0}


def _failed(step: StepView, event: Event) -> Changes:
    error: ExecutionError = event.data["error"]
    return {"state": "failed", "end_time": event.time, "message": f"{error.type}: {error.message}"}


def _ended(state: str) -> Callable[[StepView, Event], Changes]:
    return lambda step, event: {"state": state, "end_time": event.time, "message": event.data.get("reason", "")}


_STEP_CHANGES: Mapping[str, Callable[[StepView, Event], Changes]] = {
    "step_started": _started,
    "step_progress": _progressed,
    "step_retrying": _retrying,
    "step_completed": _completed,
    "step_failed": _failed,
    "step_skipped": _ended("skipped"),
    "step_cancelled": _ended("cancelled"),
    "step_reused": lambda step, event: {"state": "reused", "message": f"from {event.data['execution']}"},
}

_EXECUTION_CHANGES: Mapping[str, Callable[[Event], Changes]] = {
    "accepted": lambda event: {"state": "running", "workflow": event.data["request"]["workflow"]},
    "started": lambda event: {"state": "running"},
    "cancelling": lambda event: {"state": "cancelling"},
    "completed": lambda event: {"state": "completed"},
    "failed": lambda event: {"state": "failed", "error": event.data["error"]},
    "cancelled": lambda event: {"state": "cancelled"},
}
