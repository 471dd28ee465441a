"""Attempts as bars over time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from torana_server.cli.view import Waterfall, lanes_of, waterfall_lines
from unit.cli.events import START, Script, error


def bars(script: Script, end_s: float, *, width: int = 60, unicode: bool = False) -> list[str]:
    fall = Waterfall(START, START + timedelta(seconds=end_s), lanes_of(script.events))
    return [line.plain for line in waterfall_lines(fall, width=width, unicode=unicode)]


def retried() -> Script:
    script = Script()
    script.add("step_started", "load", at_s=0)
    script.add("step_retrying", "load", at_s=2, error=error(), next_attempt_time=None)
    script.add("step_started", "load", attempt=2, at_s=6)
    script.add("step_completed", "load", attempt=2, at_s=10)
    return script


def test_each_attempt_is_a_bar_and_the_pause_between_them_dots() -> None:
    scale, lane = bars(retried(), 10)
    assert lane.startswith("load  completed  x2    10.0s  xxx")
    bar = lane.split("s  ", 1)[1]
    assert bar.strip("x=.") == ""
    assert bar.index(".") < bar.index("=")
    assert scale.split() == ["0s", "5.00s", "10.0s"]


def test_what_runs_reaches_to_now() -> None:
    script = Script()
    script.add("step_started", "wait", at_s=5)
    _, lane = bars(script, 10)
    assert lane.startswith("wait  running    5.00s  ")
    assert lane.endswith("=")


def test_an_attempt_that_another_server_took_over_is_superseded() -> None:
    script = Script()
    script.add("step_started", "wait", at_s=0)
    script.add("recovered", at_s=4)
    script.add("step_started", "wait", at_s=5)
    script.add("step_completed", "wait", at_s=8)
    (lane,) = lanes_of(script.events)
    assert [attempt.outcome for attempt in lane.attempts] == ["superseded", "completed"]


def test_a_step_that_did_not_run_says_why() -> None:
    script = Script()
    script.add("step_skipped", "low", at_s=1)
    assert bars(script, 2)[1].endswith("route a was taken")


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    script = retried()
    script.add("step_skipped", "a_step_with_a_name_that_is_far_too_long_for_a_column", at_s=1)
    for line in bars(script, 10, width=width, unicode=True):
        assert len(line) <= width


def test_an_execution_without_duration_is_drawn() -> None:
    script = Script()
    script.add("step_started", "quick", at_s=0)
    script.add("step_completed", "quick", at_s=0)
    assert bars(script, 0)[1].endswith("=")
