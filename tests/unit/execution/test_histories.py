"""Rules that hold for every execution, whatever its plan and whatever happens to it."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation.world import check_history
from torana_server.core.values import Payload
from torana_server.execution.events import (
    Cancelled,
    Cancelling,
    Completed,
    Event,
    Failed,
    Recovered,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepSkipped,
    StepStarted,
)
from torana_server.execution.scheduler import NOTHING, Fact, decide
from torana_server.execution.state import fold
from torana_server.workflow import Definition, Plan
from unit.execution.histories import History, definitions, plan_of, random_history

any_history = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@any_history
@given(st.data())
def test_one_terminal_event_and_a_gapless_order_in_which_nothing_settled_starts_again(data: st.DataObject) -> None:
    check_history(random_history(data).events)


@any_history
@given(st.data())
def test_a_step_starts_once_its_sources_are_decided_and_one_was_taken_and_is_skipped_when_none_was(
    data: st.DataObject,
) -> None:
    history = random_history(data)
    settled: dict[str, Event] = {}
    for event in history.events:
        if isinstance(event.body, StepStarted) and event.attempt == 1:
            assert _may_run(history.plan, event.step, settled) is True
        if isinstance(event.body, StepSkipped):
            assert _may_run(history.plan, event.step, settled) is False
        if isinstance(event.body, StepCompleted | StepFailed | StepSkipped | StepCancelled):
            settled[event.step] = event


def _may_run(plan: Plan, step: str, settled: dict[str, Event]) -> bool | None:
    """By the words of the specification; None while it must wait."""
    planned = plan.steps[step]
    if any(source not in settled for source in [*(edge.source for edge in planned.inbound), *planned.after]):
        return None
    if planned.inbound:
        return any(_taken(edge.route, settled[edge.source].body) for edge in planned.inbound)
    return not planned.after or any(isinstance(settled[name].body, StepCompleted) for name in planned.after)


def _taken(route: str, ended: object) -> bool:
    if route == "error":
        return isinstance(ended, StepFailed)
    return isinstance(ended, StepCompleted) and route in ("", ended.route)


@any_history
@given(st.data())
def test_the_fold_of_any_parts_is_the_fold_of_the_whole(data: st.DataObject) -> None:
    history = random_history(data)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(history.events)), max_size=4)))
    state, start = None, 0
    for end in [*cuts, len(history.events)]:
        if end > start:
            state = fold(history.events[start:end], state)
            start = end
    assert state == fold(history.events) == history.state


@any_history
@given(st.data())
def test_a_finished_execution_decides_nothing(data: st.DataObject) -> None:
    history = random_history(data)
    assert decide(history.plan, history.current, history.now) == NOTHING


@any_history
@given(st.data())
def test_an_execution_completes_exactly_when_nothing_cut_it_short(data: st.DataObject) -> None:
    history = random_history(data)
    bodies = [event.body for event in history.events]
    unhandled = [body for body in bodies if isinstance(body, StepFailed) and not body.handled]
    cut_short = any(isinstance(body, StepCancelled) for body in bodies)
    all_settled = len(history.current.outcomes) == len(history.plan.steps)
    last = bodies[-1]
    if any(isinstance(body, Cancelling) for body in bodies):
        assert isinstance(last, Cancelled)
    elif unhandled:
        assert isinstance(last, Failed)
        assert last.error == unhandled[0].error
    elif cut_short or not all_settled:
        assert isinstance(last, Failed)
        assert last.error.reason == "EXECUTION_TIMEOUT"
    else:
        assert isinstance(last, Completed)


@any_history
@given(st.data())
def test_the_last_event_maps_every_completed_step_to_the_event_with_its_output(data: st.DataObject) -> None:
    history = random_history(data)
    completed = {event.step: event.sequence for event in history.events if isinstance(event.body, StepCompleted)}
    last = history.events[-1].body
    assert isinstance(last, Completed | Failed | Cancelled)
    assert last.outputs == completed


@any_history
@given(st.data())
def test_no_attempt_but_those_of_error_routes_starts_after_a_step_failed_for_good(data: st.DataObject) -> None:
    history = random_history(data)
    failed = False
    errors: set[str] = set()
    for event in history.events:
        if isinstance(event.body, StepFailed):
            errors.add(event.step)
            failed = failed or not event.body.handled
        if failed and isinstance(event.body, StepStarted):
            routes = [edge for edge in history.plan.steps[event.step].inbound if edge.route == "error"]
            assert any(edge.source in errors for edge in routes)


@any_history
@given(st.data())
def test_nothing_starts_and_nothing_is_retried_once_a_cancel_is_recorded(data: st.DataObject) -> None:
    events = random_history(data).events
    asked = next((event.sequence for event in events if isinstance(event.body, Cancelling)), len(events))
    assert not [event for event in events[asked:] if isinstance(event.body, StepStarted | StepRetrying)]


@any_history
@given(st.data())
def test_a_retry_never_starts_before_its_time(data: st.DataObject) -> None:
    due: dict[str, int] = {}
    for event in random_history(data).events:
        if isinstance(event.body, StepRetrying):
            due[event.step] = event.body.next_attempt_time
        if isinstance(event.body, StepStarted):
            assert event.time >= due.get(event.step, 0)


@any_history
@given(st.data())
def test_every_attempt_that_ran_when_the_server_was_lost_counts_as_interrupted(data: st.DataObject) -> None:
    history = random_history(data)
    running: set[str] = set()
    interruptions = dict.fromkeys(history.plan.order, 0)
    for event in history.events:
        if isinstance(event.body, Recovered):
            for step in running:
                interruptions[step] += 1
            running.clear()
        elif isinstance(event.body, StepStarted):
            running.add(event.step)
        elif isinstance(event.body, StepCompleted | StepFailed | StepCancelled | StepRetrying):
            running.discard(event.step)
    assert {name: history.current.step(name).interruptions for name in history.plan.order} == interruptions


@settings(max_examples=100)
@given(definitions())
def test_a_draining_server_starts_nothing_and_the_next_one_ends_the_execution(definition: Definition) -> None:
    history = History.started(plan_of(definition))
    while running := history.running():
        before = len(history.events)
        attempt = history.current.step(running[0]).attempt
        history.turn([Fact(StepCompleted(Payload("{}")), running[0], attempt)], may_start=False)
        assert not [event for event in history.events[before:] if isinstance(event.body, StepStarted)]
    if not history.current.terminal:
        history.crash()
        history.finish()
    check_history(history.events)
