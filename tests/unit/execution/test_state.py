from __future__ import annotations

import pytest

from simulation.world import flow, work
from torana_server.core.clock import Micros
from torana_server.core.values import Payload, decode
from torana_server.execution.events import (
    Body,
    Event,
    ExecutionError,
    Started,
    StepCheckpointed,
    StepCompleted,
    StepFailed,
    StepProgress,
    StepReused,
    StepStarted,
)
from torana_server.execution.ports import ExecutionState
from torana_server.execution.scheduler import Fact
from torana_server.execution.state import StepPhase, error_as_data, fold
from torana_server.workflow import RetryPolicy
from unit.execution.histories import History, accepted, error, plan_of


def events(*bodies: tuple[str, int, Body] | Body) -> list[Event]:
    made = []
    for sequence, body in enumerate(bodies, 1):
        step, attempt, fact = body if isinstance(body, tuple) else ("", 0, body)
        made.append(Event(sequence, Micros(1_000 + sequence), step, attempt, fact))
    return made


def test_a_journal_begins_with_its_acceptance() -> None:
    with pytest.raises(ValueError, match="begins with ExecutionAccepted"):
        fold(events(Started()))


def test_a_gap_in_the_sequence_is_refused() -> None:
    whole = events(accepted(), Started(), ("a", 1, StepStarted()))
    with pytest.raises(ValueError, match="event 3 follows event 1"):
        fold([whole[0], whole[2]])


def test_a_reader_that_leaves_narration_out_comes_to_the_same_state() -> None:
    whole = events(accepted(), Started(), ("a", 1, StepStarted()), ("a", 1, StepProgress(0.5)), ("a", 1, StepStarted()))
    assert fold([*whole[:3], whole[4]], gapless=False) == fold(whole)


def test_an_execution_is_queued_until_it_starts() -> None:
    state = fold(events(accepted()))
    assert (state.status, state.start, state.terminal) == (ExecutionState.QUEUED, None, False)
    state = fold(events(accepted(), Started()))
    assert (state.status, state.start) == (ExecutionState.RUNNING, Micros(1_002))


def test_a_checkpoint_is_kept_for_the_next_attempt() -> None:
    history = History.started(plan_of(flow(work("a", retry=RetryPolicy(max_attempts=2)))))
    history.turn([Fact(StepCheckpointed(Payload("7")), "a", 1)])
    history.fail("a", error())
    history.wait_until_due()
    assert history.current.step("a").checkpoint == Payload("7")
    history.crash()
    assert history.current.step("a").checkpoint == Payload("7")


def test_the_total_time_of_a_step_counts_from_its_first_start() -> None:
    history = History.started(plan_of(flow(work("a", retry=RetryPolicy(max_attempts=2)))))
    first = history.now
    history.fail("a", error())
    history.wait_until_due()
    step = history.current.step("a")
    assert step.first_start == first
    assert step.attempt_start == history.now > first


def test_the_first_step_that_failed_for_good_is_why_the_execution_fails() -> None:
    handled = ("a", 1, StepFailed(error("First"), handled=True))
    state = fold(events(accepted(), Started(), handled, ("b", 1, StepFailed(error("Second")))))
    assert state.failed_step == "b"


def test_a_handled_failure_hands_on_its_error_as_data() -> None:
    failure = ExecutionError(type="Boom", message="ж", reason="STEP_FAILED", attempt=3, metadata={"path": "x"})
    state = fold(events(accepted(), Started(), ("a", 3, StepFailed(failure, handled=True))))
    outcome = state.outcomes["a"]
    assert outcome.output is None
    assert outcome.error == error_as_data(failure)
    assert decode(outcome.error) == {
        "type": "Boom",
        "message": "ж",
        "attempt": 3,
        "details": {"reason": "STEP_FAILED", "path": "x"},
    }


def test_a_reused_step_is_complete_and_its_output_is_in_the_event_that_says_so() -> None:
    reused = ("a", 0, StepReused("earlier", 4, Payload("1"), "left"))
    state = fold(events(accepted(), reused))
    assert state.step("a").phase is StepPhase.COMPLETED
    assert state.outputs() == {"a": 2}
    assert state.outcomes["a"].route == "left"


def test_what_is_settled_is_active_no_more() -> None:
    state = fold(events(accepted(), Started(), ("a", 1, StepStarted()), ("b", 1, StepStarted())))
    assert state.active == {"a", "b"}
    done = Event(5, Micros(2_000), "a", 1, StepCompleted(Payload("1")))
    assert fold([done], state).active == {"b"}
    assert state.active == {"a", "b"}, "a fold leaves the state it goes on from as it was"
