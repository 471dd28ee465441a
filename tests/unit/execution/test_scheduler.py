"""What `decide` makes of a state, and what failures become, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.world import flow, kinds, work
from torana_server.core.errors import Reason
from torana_server.core.limits import EVENTS_PER_EXECUTION_MAX
from torana_server.execution.events import (
    Cancelled,
    Completed,
    Failed,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepRetrying,
)
from torana_server.execution.scheduler import (
    MAX_INTERRUPTIONS,
    NOTHING,
    Fact,
    StopReason,
    decide,
    on_failure,
)
from torana_server.execution.state import StepPhase
from torana_server.workflow import Definition, RetryPolicy, StepTimeout
from unit.execution.histories import History, accepted, error, plan_of


def started(definition: Definition, **request: object) -> History:
    return History.started(plan_of(definition), **request)


# order


def test_what_is_queued_decides_nothing() -> None:
    history = History(plan_of(flow("a")))
    history.turn([Fact(accepted())])
    assert decide(history.plan, history.current, history.now) == NOTHING


def test_independent_steps_start_together_in_plan_order() -> None:
    history = started(flow("a", "b", "c", connections=["a>c", "b>c"]))
    assert kinds(history.events) == ["accepted", "started", "step_started a", "step_started b"]


def test_a_step_behind_an_untaken_route_is_skipped_and_so_is_what_only_it_leads_to() -> None:
    switch = replace(work("s"), type="switch", config={"routes": ["left", "right"]})
    history = started(flow(switch, "a", "b", "c", connections=["s>a:left", "s>b:right", "b>c"]))
    history.complete("s", route="left")
    assert kinds(history.events)[3:] == ["step_completed s", "step_started a", "step_skipped b", "step_skipped c"]


def test_skipping_everything_that_is_left_completes_the_execution() -> None:
    history = started(flow("a", "b", connections=["a>b:error"]))
    history.complete("a")
    assert kinds(history.events)[3:] == ["step_completed a", "step_skipped b", "completed"]


# failures


def test_a_failure_with_an_error_route_does_not_fail_the_execution() -> None:
    history = started(flow("a", "b", connections=["a>b:error"]))
    history.fail("a", error())
    history.complete("b")
    assert kinds(history.events)[3:] == ["step_failed a", "step_started b", "step_completed b", "completed"]


def test_when_a_step_fails_for_good_the_others_are_stopped_before_the_execution_ends() -> None:
    history = started(flow("a", "b", "c", connections=["a>c", "b>c"]))
    history.fail("a", error())
    assert history.stopping == {"b": StopReason.ENDING}
    assert not history.current.terminal
    history.stop("b")
    assert kinds(history.events)[4:] == ["step_failed a", "step_cancelled b", "failed"]
    assert history.current.error == error()


def test_error_routes_of_a_failing_execution_run_to_their_end() -> None:
    history = started(flow("a", "b", "handler", connections=["b>handler:error"]))
    history.fail("a", error())
    history.fail("b", error("Other"))
    assert history.stopping == {}
    history.complete("handler")
    assert kinds(history.events)[4:] == [
        "step_failed a",
        "step_failed b",
        "step_started handler",
        "step_completed handler",
        "failed",
    ]


def failing_with_a_handler(**fields: object) -> History:
    """`a` failed for good while `handler` runs because of `b`."""
    definition = flow("a", "b", "handler", connections=["b>handler:error"], **fields)
    history = started(definition)
    history.fail("b", error())
    history.fail("a", error("Fatal"))
    return history


def test_an_error_route_that_ran_when_the_server_was_lost_runs_again() -> None:
    history = failing_with_a_handler()
    history.crash()
    assert history.current.step("handler").phase is StepPhase.RUNNING
    assert history.current.step("handler").attempt == 2
    history.complete("handler")
    assert isinstance(history.events[-1].body, Failed)


def test_an_error_route_outlives_neither_a_cancel_nor_the_executions_time() -> None:
    cancelled = failing_with_a_handler()
    cancelled.cancel()
    assert cancelled.stopping == {"handler": StopReason.ENDING}
    late = failing_with_a_handler(timeout_s=5.0)
    late.wait(4.9)
    assert late.stopping == {}
    late.wait_until_due()
    assert late.stopping == {"handler": StopReason.ENDING}


def test_a_draining_server_leaves_the_error_routes_of_a_failing_execution_to_the_next() -> None:
    history = started(flow("a", "b", "handler", connections=["b>handler:error"]))
    history.turn([Fact(StepFailed(error()), "a", 1)], may_start=False)
    history.turn([Fact(StepFailed(error(), handled=True), "b", 1)], may_start=False)
    assert history.running() == []
    assert not history.current.terminal
    history.crash()
    assert history.running() == ["handler"]


def test_a_step_that_waits_for_its_retry_is_cancelled_when_another_fails_for_good() -> None:
    history = started(flow(work("a", retry=RetryPolicy(max_attempts=3)), "b", "c", connections=["a>c", "b>c"]))
    history.fail("a", error())
    history.fail("b", error())
    assert kinds(history.events)[4:] == ["step_retrying a", "step_failed b", "step_cancelled a", "failed"]


# retries

POLICY = RetryPolicy(max_attempts=4, initial_interval_s=2.0, backoff=3.0, max_interval_s=10.0, jitter=0.5)


def pause_s(policy: RetryPolicy, failures: int, draw: float) -> float:
    """How long the pause after that many failures is."""
    history = started(flow(work("a", retry=replace(policy, max_attempts=1_000))))
    for _ in range(failures - 1):
        history.fail("a", error())
        history.wait_until_due()
    body = on_failure(history.plan, history.current, "a", error(), history.now, draw)
    assert isinstance(body, StepRetrying)
    return (body.next_attempt_time - history.now) / 1_000_000


def test_the_pause_grows_by_the_backoff_up_to_the_maximum() -> None:
    assert [pause_s(POLICY, failures, 0.0) for failures in (1, 2, 3, 4, 99)] == [2.0, 6.0, 10.0, 10.0, 10.0]


@given(st.integers(1, 12), st.floats(0, 1, exclude_max=True))
def test_jitter_only_shortens_the_pause_and_by_no_more_than_its_share(failures: int, draw: float) -> None:
    longest = min(2.0 * 3.0 ** (failures - 1), 10.0)
    assert longest * 0.5 - 1e-6 <= pause_s(POLICY, failures, draw) <= longest


def test_max_attempts_counts_failures_the_first_included() -> None:
    history = started(flow(work("a", retry=RetryPolicy(max_attempts=3, jitter=0))))
    for _ in range(2):
        history.fail("a", error())
        assert history.current.step("a").phase is StepPhase.WAITING
        history.wait_until_due()
    history.fail("a", error())
    assert history.current.step("a").phase is StepPhase.FAILED
    assert history.current.step("a").attempt == 3


def test_interruptions_are_no_failures() -> None:
    history = started(flow(work("a", retry=RetryPolicy(max_attempts=2, jitter=0))))
    for _ in range(3):
        history.crash()
    history.fail("a", error())
    assert (history.current.step("a").attempt, history.current.step("a").failures) == (4, 1)
    assert history.current.step("a").phase is StepPhase.WAITING


def test_a_step_survives_five_interruptions_and_no_more() -> None:
    history = started(flow("a"))
    for attempt in range(MAX_INTERRUPTIONS):
        history.crash()
        assert history.current.step("a").attempt == attempt + 2
    history.crash()
    assert history.current.step("a").phase is StepPhase.FAILED
    assert history.current.error is not None
    assert history.current.error.reason == Reason.STEP_INTERRUPTED


@pytest.mark.parametrize(
    ("policy", "kind", "retried"),
    [
        ({"retry_on": ("Boom",)}, "Boom", True),
        ({"retry_on": ("Boom",)}, "Other", False),
        ({"retry_on": ("STEP_FAILED",)}, "Other", True),
        ({"never_retry_on": ("Boom",)}, "Boom", False),
        ({"never_retry_on": ("Boom",)}, "Other", True),
        ({"retry_on": ("Boom",), "never_retry_on": ("STEP_FAILED",)}, "Boom", False),
    ],
)
def test_retry_on_and_never_retry_on_name_types_or_reasons_and_never_wins(policy, kind: str, retried: bool) -> None:
    history = started(flow(work("a", retry=RetryPolicy(max_attempts=2, **policy))))
    body = on_failure(history.plan, history.current, "a", error(kind), history.now, 0.0)
    assert isinstance(body, StepRetrying) is retried


def test_what_must_fail_the_same_way_again_is_not_retried() -> None:
    history = started(flow(work("a", retry=RetryPolicy(max_attempts=5))))
    history.fail("a", error(retryable=False))
    assert history.current.step("a").phase is StepPhase.FAILED


def test_a_retry_that_would_begin_after_the_steps_time_is_up_does_not_wait_for_it() -> None:
    retry = RetryPolicy(max_attempts=5, initial_interval_s=10, jitter=0)
    history = started(flow(work("a", retry=retry, timeout=StepTimeout(total_s=10))))
    history.fail("a", error())
    assert history.current.step("a").phase is StepPhase.FAILED


def test_an_execution_that_has_written_all_its_events_retries_no_more() -> None:
    history = started(flow(work("a", retry=RetryPolicy(max_attempts=1_000_000))))
    full = replace(history.current, sequence=EVENTS_PER_EXECUTION_MAX)
    assert isinstance(on_failure(history.plan, full, "a", error(), history.now, 0.0), StepFailed)


# time


def test_an_attempt_is_stopped_at_its_timeout_and_not_before() -> None:
    history = started(flow(work("a", timeout=StepTimeout(attempt_s=5))))
    history.wait(4.999999)
    assert history.stopping == {}
    history.wait(0.000001)
    assert history.stopping == {"a": StopReason.TIMEOUT}
    history.stop("a")
    assert history.current.error is not None
    assert history.current.error.reason == Reason.STEP_TIMEOUT


def test_each_attempt_has_its_own_time_and_all_together_the_total() -> None:
    timeout = StepTimeout(attempt_s=5, total_s=15)
    retry = RetryPolicy(max_attempts=9, initial_interval_s=1, backoff=1, jitter=0)
    history = started(flow(work("a", timeout=timeout, retry=retry)))
    for _ in range(2):
        history.wait(5)
        history.stop("a")
        history.wait_until_due()
    assert history.current.step("a").attempt == 3
    history.wait_until_due()
    assert (history.now - history.events[0].time) / 1_000_000 == 15
    history.stop("a")
    assert history.current.step("a").phase is StepPhase.FAILED


def test_an_execution_whose_last_step_was_cut_short_by_its_timeout_has_failed() -> None:
    history = started(flow("a", timeout_s=5.0))
    history.wait(5)
    assert history.stopping == {"a": StopReason.ENDING}
    history.stop("a")
    last = history.events[-1].body
    assert isinstance(last, Failed)
    assert last.error.reason == Reason.EXECUTION_TIMEOUT


def test_an_execution_whose_last_step_completes_at_its_deadline_was_in_time() -> None:
    history = started(flow("a", timeout_s=5.0))
    history.wait(5)
    history.complete("a")
    assert isinstance(history.events[-1].body, Completed)


def test_the_requests_timeout_only_shortens() -> None:
    shorter = started(flow("a", timeout_s=5.0), timeout_s=2.0)
    longer = started(flow("a", timeout_s=5.0), timeout_s=60.0)
    alone = started(flow("a"), timeout_s=3.0)
    waits = [(h.wake_at - h.now) / 1_000_000 for h in (shorter, longer, alone) if h.wake_at is not None]
    assert waits == [2.0, 5.0, 3.0]


def test_cancelling_stops_what_runs_cancels_what_waits_and_then_ends_with_what_is_there() -> None:
    retry = RetryPolicy(max_attempts=2)
    history = started(flow("a", "b", work("c", retry=retry), "d", connections=["a>d", "b>d", "c>d"]))
    history.complete("a")
    history.fail("c", error())
    history.cancel()
    assert kinds(history.events)[-2:] == ["cancelling", "step_cancelled c"]
    assert history.stopping == {"b": StopReason.ENDING}
    history.stop("b")
    last = history.events[-1].body
    assert isinstance(last, Cancelled)
    assert list(last.outputs) == ["a"]


def test_a_step_that_completes_although_it_was_asked_to_stop_counts() -> None:
    history = started(flow("a"))
    history.cancel()
    history.complete("a")
    last = history.events[-1].body
    assert isinstance(last, Cancelled)
    assert list(last.outputs) == ["a"]


def test_cancelled_steps_name_the_reason() -> None:
    history = started(flow("a", "b", connections=["a>b"]))
    history.cancel()
    history.stop("a")
    bodies = [event.body for event in history.events if isinstance(event.body, StepCancelled | StepCompleted)]
    assert bodies == [StepCancelled("the execution is ending")]
