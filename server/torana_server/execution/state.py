"""The fold: an execution's state is a pure function of its events."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.execution.events import (
    Accepted,
    Cancelled,
    Cancelling,
    Completed,
    Event,
    EventKind,
    ExecutionError,
    Failed,
    Recovered,
    Started,
    StepCancelled,
    StepCheckpointed,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepStarted,
)
from torana_server.execution.ports import ExecutionState
from torana_server.workflow import Outcome


class StepPhase(enum.StrEnum):
    """INTERRUPTED: an attempt ran when its server was lost; another is due at once."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    INTERRUPTED = "INTERRUPTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


EPOCH = Micros(0)
ACTIVE = frozenset({StepPhase.RUNNING, StepPhase.WAITING, StepPhase.INTERRUPTED})
SETTLED = frozenset({StepPhase.COMPLETED, StepPhase.FAILED, StepPhase.SKIPPED, StepPhase.CANCELLED})


class StepState(NamedTuple):
    phase: StepPhase = StepPhase.PENDING
    attempt: int = 0
    failures: int = 0
    interruptions: int = 0
    first_start: Micros | None = None
    attempt_start: Micros | None = None
    end: Micros | None = None
    next_attempt: Micros | None = None
    output: Payload | None = None
    output_sequence: int = 0
    route: str = ""
    error: ExecutionError | None = None
    handled: bool = False
    checkpoint: Payload | None = None


PENDING = StepState()


@dataclass(slots=True)
class State:
    """What an execution's events say. Changed by `apply` only, by the one who folds.

    `steps` holds the steps that events have touched; all others are PENDING. `active` names those with an attempt that
    runs or is due; `outcomes` is what data flow sees of settled steps.
    """

    accepted: Accepted
    status: ExecutionState = ExecutionState.QUEUED
    sequence: int = 0
    time: Micros = EPOCH
    start: Micros | None = None
    end: Micros | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    cancelling: Cancelling | None = None
    failed_step: str = ""
    """The first step that failed for good without an error route."""
    error: ExecutionError | None = None
    create: Micros = EPOCH

    def step(self, name: str) -> StepState:
        return self.steps.get(name, PENDING)

    @property
    def terminal(self) -> bool:
        return self.end is not None

    def outputs(self) -> dict[str, int]:
        """Finished steps to the sequence of the event that holds their output."""
        return {name: step.output_sequence for name, step in self.steps.items() if step.output is not None}

    def copy(self) -> State:
        return replace(self, steps=dict(self.steps), active=set(self.active), outcomes=dict(self.outcomes))

    def apply(self, event: Event) -> None:
        """Adds what the next event says. Raises ValueError when it does not follow the latest one."""
        if event.sequence != self.sequence + 1:
            raise ValueError(f"event {event.sequence} follows event {self.sequence}")
        self.sequence = event.sequence
        self.time = event.time
        fold_body = _FOLDS.get(type(event.body))
        if fold_body is not None:
            fold_body(self, event)


NARRATION = frozenset({EventKind.STEP_PROGRESS, EventKind.STEP_LOG, EventKind.STEP_EMITTED})
"""Kinds that change no state. A reader of long journals may leave them out and fold with `gapless=False`."""


def fold(events: Iterable[Event], state: State | None = None, *, gapless: bool = True) -> State:
    """The state after `events`, which go on from `state` or begin with ExecutionAccepted. Pure.

    Raises ValueError when the sequence has a gap (unless `gapless` is False) or the first event is not
    ExecutionAccepted.
    """
    folded = None if state is None else state.copy()
    for event in events:
        if folded is None:
            folded = begin(event)
            continue
        if not gapless:
            folded.sequence = event.sequence - 1
        folded.apply(event)
    if folded is None:
        raise ValueError("a journal begins with ExecutionAccepted")
    return folded


def begin(event: Event) -> State:
    """The state after the first event of an execution."""
    if not isinstance(event.body, Accepted) or event.sequence != 1:
        raise ValueError("a journal begins with ExecutionAccepted")
    return State(event.body, sequence=1, time=event.time, create=event.time)


def _execution_started(state: State, event: Event) -> None:
    state.status = ExecutionState.RUNNING
    state.start = event.time


def _execution_recovered(state: State, event: Event) -> None:
    for name in state.active:
        step = state.steps[name]
        if step.phase is StepPhase.RUNNING:
            interruptions = step.interruptions + 1
            state.steps[name] = step._replace(phase=StepPhase.INTERRUPTED, interruptions=interruptions)


def _execution_cancelling(state: State, event: Event) -> None:
    assert isinstance(event.body, Cancelling)
    state.status = ExecutionState.CANCELLING
    state.cancelling = event.body


def _execution_completed(state: State, event: Event) -> None:
    state.status, state.end = ExecutionState.COMPLETED, event.time


def _execution_failed(state: State, event: Event) -> None:
    assert isinstance(event.body, Failed)
    state.status, state.end, state.error = ExecutionState.FAILED, event.time, event.body.error


def _execution_cancelled(state: State, event: Event) -> None:
    state.status, state.end = ExecutionState.CANCELLED, event.time


def _of_step(fold_step: Callable[[StepState, Event], StepState]) -> Callable[[State, Event], None]:
    """The fold of a kind of event that changes one step."""

    def fold_event(state: State, event: Event) -> None:
        name = event.step
        after = fold_step(state.steps.get(name, PENDING), event)
        state.steps[name] = after
        phase = after.phase
        if phase in ACTIVE:
            state.active.add(name)
        elif phase in SETTLED:
            state.active.discard(name)
            state.outcomes[name] = _outcome(after)
            if phase is StepPhase.FAILED and not after.handled and not state.failed_step:
                state.failed_step = name

    return fold_event


def _outcome(step: StepState) -> Outcome:
    if step.phase is StepPhase.FAILED and step.handled and step.error is not None:
        return Outcome(None, error=error_as_data(step.error))
    return Outcome(step.output, step.route)


def error_as_data(error: ExecutionError) -> Payload:
    """What an `error` route hands on: {type, message, attempt, details}."""
    details = {"reason": error.reason, **error.metadata}
    fields = {"type": error.type, "message": error.message, "attempt": error.attempt, "details": details}
    return Payload(json.dumps(fields, ensure_ascii=False))


def _started(step: StepState, event: Event) -> StepState:
    return StepState(
        StepPhase.RUNNING,
        event.attempt,
        step.failures,
        step.interruptions,
        step.first_start if step.first_start is not None else event.time,
        event.time,
        error=step.error,
        checkpoint=step.checkpoint,
    )


def _retrying(step: StepState, event: Event) -> StepState:
    body = event.body
    assert isinstance(body, StepRetrying)
    return step._replace(
        phase=StepPhase.WAITING,
        failures=step.failures + 1,
        error=body.error,
        next_attempt=body.next_attempt_time,
    )


def _completed(step: StepState, event: Event) -> StepState:
    body = event.body
    assert isinstance(body, StepCompleted | StepReused)
    return StepState(
        StepPhase.COMPLETED,
        event.attempt,
        step.failures,
        step.interruptions,
        step.first_start,
        step.attempt_start,
        event.time,
        output=body.output,
        output_sequence=event.sequence,
        route=body.route,
    )


def _failed(step: StepState, event: Event) -> StepState:
    body = event.body
    assert isinstance(body, StepFailed)
    return step._replace(
        phase=StepPhase.FAILED,
        failures=step.failures + 1,
        end=event.time,
        error=body.error,
        handled=body.handled,
    )


def _skipped(step: StepState, event: Event) -> StepState:
    return step._replace(phase=StepPhase.SKIPPED, end=event.time)


def _cancelled(step: StepState, event: Event) -> StepState:
    return step._replace(phase=StepPhase.CANCELLED, end=event.time)


def _checkpointed(step: StepState, event: Event) -> StepState:
    body = event.body
    assert isinstance(body, StepCheckpointed)
    return step._replace(checkpoint=body.value)


_FOLDS: dict[type, Callable[[State, Event], None]] = {
    Started: _execution_started,
    Recovered: _execution_recovered,
    Cancelling: _execution_cancelling,
    Completed: _execution_completed,
    Failed: _execution_failed,
    Cancelled: _execution_cancelled,
    StepStarted: _of_step(_started),
    StepRetrying: _of_step(_retrying),
    StepCompleted: _of_step(_completed),
    StepReused: _of_step(_completed),
    StepFailed: _of_step(_failed),
    StepSkipped: _of_step(_skipped),
    StepCancelled: _of_step(_cancelled),
    StepCheckpointed: _of_step(_checkpointed),
}
"""Kinds that change a state. The others are NARRATION, StepScheduled, and ExecutionAccepted, which begins it."""
