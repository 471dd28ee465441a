"""The fold: an execution's state is a pure function of its events."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

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


ACTIVE = frozenset({StepPhase.RUNNING, StepPhase.WAITING, StepPhase.INTERRUPTED})
SETTLED = frozenset({StepPhase.COMPLETED, StepPhase.FAILED, StepPhase.SKIPPED, StepPhase.CANCELLED})


@dataclass(frozen=True, slots=True)
class StepState:
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


@dataclass(frozen=True, slots=True)
class State:
    """`steps` holds the steps that events have touched; all others are PENDING.

    `active` names the steps with an attempt that runs or is due; `outcomes` is what data flow sees of settled steps.
    """

    accepted: Accepted
    status: ExecutionState
    sequence: int
    time: Micros
    start: Micros | None = None
    end: Micros | None = None
    steps: Mapping[str, StepState] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    cancelling: Cancelling | None = None
    failed_step: str = ""
    """The first step that failed for good without an error route."""
    error: ExecutionError | None = None

    def step(self, name: str) -> StepState:
        return self.steps.get(name, PENDING)

    @property
    def terminal(self) -> bool:
        return self.end is not None

    def outputs(self) -> dict[str, int]:
        """Finished steps to the sequence of the event that holds their output."""
        return {name: step.output_sequence for name, step in self.steps.items() if step.output is not None}


NARRATION = frozenset({EventKind.STEP_PROGRESS, EventKind.STEP_LOG, EventKind.STEP_EMITTED})
"""Kinds that change no state. A reader of long journals may leave them out and fold with `gapless=False`."""


def fold(events: Iterable[Event], state: State | None = None, *, gapless: bool = True) -> State:
    """The state after `events`, which go on from `state` or begin with ExecutionAccepted.

    Raises ValueError when the sequence has a gap (unless `gapless` is False) or the first event is not
    ExecutionAccepted.
    """
    folding = _Folding(state, gapless)
    for event in events:
        folding.apply(event)
    return folding.result()


class _Folding:
    """Mutable while one batch is folded, so that maps are copied once a batch and not once an event."""

    def __init__(self, state: State | None, gapless: bool) -> None:
        self._gapless = gapless
        self._steps = dict(state.steps) if state else {}
        self._outcomes = dict(state.outcomes) if state else {}
        self._active = set(state.active) if state else set()
        self._accepted = state.accepted if state else None
        self._status = state.status if state else ExecutionState.QUEUED
        self._sequence = state.sequence if state else 0
        self._time = state.time if state else Micros(0)
        self._start = state.start if state else None
        self._end = state.end if state else None
        self._cancelling = state.cancelling if state else None
        self._failed_step = state.failed_step if state else ""
        self._error = state.error if state else None

    def result(self) -> State:
        if self._accepted is None:
            raise ValueError("a journal begins with ExecutionAccepted")
        return State(
            self._accepted,
            self._status,
            self._sequence,
            self._time,
            self._start,
            self._end,
            self._steps,
            frozenset(self._active),
            self._outcomes,
            self._cancelling,
            self._failed_step,
            self._error,
        )

    def apply(self, event: Event) -> None:
        if self._gapless and event.sequence != self._sequence + 1:
            raise ValueError(f"event {event.sequence} follows event {self._sequence}")
        self._sequence = event.sequence
        self._time = event.time
        body = event.body
        if event.step:
            self._apply_to_step(event)
        elif isinstance(body, Accepted):
            self._accepted = body
        elif isinstance(body, Started):
            self._status = ExecutionState.RUNNING
            self._start = event.time
        elif isinstance(body, Recovered):
            self._interrupt()
        elif isinstance(body, Cancelling):
            self._status = ExecutionState.CANCELLING
            self._cancelling = body
        elif isinstance(body, Completed):
            self._finish(ExecutionState.COMPLETED, event.time)
        elif isinstance(body, Failed):
            self._finish(ExecutionState.FAILED, event.time)
            self._error = body.error
        elif isinstance(body, Cancelled):
            self._finish(ExecutionState.CANCELLED, event.time)

    def _finish(self, status: ExecutionState, at: Micros) -> None:
        self._status = status
        self._end = at

    def _interrupt(self) -> None:
        for name in self._active:
            step = self._steps[name]
            if step.phase is StepPhase.RUNNING:
                self._steps[name] = replace(step, phase=StepPhase.INTERRUPTED, interruptions=step.interruptions + 1)

    def _apply_to_step(self, event: Event) -> None:
        name, body = event.step, event.body
        before = self._steps.get(name, PENDING)
        after = _STEP_FOLDS.get(type(body), _unchanged)(before, event)
        if after is before:
            return
        self._steps[name] = after
        if after.phase in ACTIVE:
            self._active.add(name)
            return
        self._active.discard(name)
        if after.phase in SETTLED:
            self._outcomes[name] = _outcome(after)
        if after.phase is StepPhase.FAILED and not after.handled and not self._failed_step:
            self._failed_step = name


def _outcome(step: StepState) -> Outcome:
    if step.phase is StepPhase.FAILED and step.handled and step.error is not None:
        return Outcome(None, error=error_as_data(step.error))
    return Outcome(step.output, step.route)


def error_as_data(error: ExecutionError) -> Payload:
    """What an `error` route hands on: {type, message, attempt, details}."""
    details = {"reason": error.reason, **error.metadata}
    fields = {"type": error.type, "message": error.message, "attempt": error.attempt, "details": details}
    return Payload(json.dumps(fields, ensure_ascii=False))


def _unchanged(step: StepState, event: Event) -> StepState:
    return step


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
    return replace(
        step,
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
    return replace(
        step,
        phase=StepPhase.FAILED,
        failures=step.failures + 1,
        end=event.time,
        error=body.error,
        handled=body.handled,
    )


def _skipped(step: StepState, event: Event) -> StepState:
    return replace(step, phase=StepPhase.SKIPPED, end=event.time)


def _cancelled(step: StepState, event: Event) -> StepState:
    return replace(step, phase=StepPhase.CANCELLED, end=event.time)


def _checkpointed(step: StepState, event: Event) -> StepState:
    body = event.body
    assert isinstance(body, StepCheckpointed)
    return replace(step, checkpoint=body.value)


_STEP_FOLDS = {
    StepStarted: _started,
    StepRetrying: _retrying,
    StepCompleted: _completed,
    StepReused: _completed,
    StepFailed: _failed,
    StepSkipped: _skipped,
    StepCancelled: _cancelled,
    StepCheckpointed: _checkpointed,
}
