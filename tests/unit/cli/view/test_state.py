"""The fold of events that terminals show."""

from __future__ import annotations

from datetime import timedelta

from torana_server.cli.view import ExecutionView, applied
from unit.cli.events import START, Script, error


def test_steps_stand_in_the_order_in_which_they_appeared() -> None:
    script = Script()
    for step in ("b", "a", "c"):
        script.add("step_scheduled", step)
    script.add("step_completed", "a")
    assert list(script.view.steps) == ["b", "a", "c"]


def test_a_step_goes_from_scheduled_over_running_to_completed() -> None:
    script, states = Script(), []
    for kind in ("step_scheduled", "step_started", "step_progress", "step_completed"):
        script.add(kind, "load")
        states.append(script.view.steps["load"].state)
    assert states == ["scheduled", "running", "running", "completed"]


def test_progress_is_kept_between_nothing_and_everything() -> None:
    script = Script()
    script.add("step_progress", "load", fraction=1.7)
    assert script.view.steps["load"].fraction == 1.0
    script.add("step_progress", "load", fraction=-2.0)
    assert script.view.steps["load"].fraction == 0.0


def test_a_message_stays_until_another_one_comes() -> None:
    script = Script()
    script.add("step_progress", "load", message="page 1")
    script.add("step_progress", "load", message="")
    assert script.view.steps["load"].message == "page 1"


def test_a_new_attempt_starts_without_the_progress_of_the_last_one() -> None:
    script = Script()
    script.add("step_started", "load")
    script.add("step_progress", "load", fraction=0.8)
    script.add("step_retrying", "load", error=error(), next_attempt_time=None)
    assert script.view.steps["load"].state == "retrying"
    script.add("step_started", "load", attempt=2)
    step = script.view.steps["load"]
    assert (step.state, step.attempt, step.fraction) == ("running", 2, None)


def test_completion_fills_the_bar_of_a_step_that_had_one() -> None:
    script = Script()
    script.add("step_progress", "with", fraction=0.8)
    script.add("step_completed", "with")
    script.add("step_completed", "without")
    assert [step.fraction for step in script.view.steps.values()] == [1.0, None]


def test_the_time_of_a_step_runs_until_it_ends() -> None:
    script = Script()
    script.add("step_started", "load", at_s=1)
    assert script.view.steps["load"].elapsed_s(START + timedelta(seconds=3)) == 2.0
    script.add("step_completed", "load", at_s=5)
    assert script.view.steps["load"].elapsed_s(START + timedelta(seconds=60)) == 4.0


def test_the_time_of_a_step_that_waits_is_unknown() -> None:
    script = Script()
    script.add("step_scheduled", "load")
    assert script.view.steps["load"].elapsed_s(START) is None


def test_the_execution_ends_with_its_error() -> None:
    script, failure = Script(), error()
    script.add("accepted")
    script.add("failed", error=failure, outputs={})
    view = script.view
    assert (view.workflow, view.state, view.error, view.event_count) == ("etl", "failed", failure, 2)


def test_an_unknown_kind_changes_nothing_but_the_counts() -> None:
    script = Script()
    script.add("accepted")
    before = script.view
    script.add("step_parked", "load", at_s=0)
    after = script.view
    assert (after.state, after.steps["load"].state, after.event_count) == (before.state, "scheduled", 2)


def test_a_stream_that_begins_in_the_middle_is_shown_from_there() -> None:
    script = Script()
    script.add("accepted")
    script.add("step_started", "load")
    view = applied(ExecutionView(), script.events[1])
    assert (view.workflow, list(view.steps), view.event_count) == ("", ["load"], 2)
