"""Plain lines, for pipes and logs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana_server.cli.view import PlainLines
from unit.cli.events import START, Script, error


def lines_of(script: Script, *, named: bool = False) -> list[str]:
    lines = PlainLines(named=named)
    return [line for event in script.events for line in lines.of(event)]


def test_a_run_reads_as_a_log() -> None:
    script = Script()
    script.add("accepted")
    script.add("started")
    script.add("step_scheduled", "load")
    script.add("step_started", "load")
    script.add("step_progress", "load", fraction=0.25, message="page 1")
    script.add("step_log", "load", level="warning", message="odd row")
    script.add("step_completed", "load")
    script.add("completed")
    assert lines_of(script) == [
        "    0.000s  accepted etl, execution 01a1fc5f-1ef8-7191-b1f0-cfa7603d3135",
        "    0.300s  load                    started",
        "    0.400s  load                     25% page 1",
        "    0.500s  load                    warning: odd row",
        "    0.600s  load                    completed",
        "    0.700s  completed",
    ]


def test_a_retry_says_what_failed_and_when_it_goes_on() -> None:
    script = Script()
    script.add("step_retrying", "divide", error=error(), next_attempt_time=START + timedelta(seconds=2))
    said = "attempt 1 failed: ZeroDivisionError: division by zero; next attempt in 2.0s"
    assert lines_of(script) == [f"    0.000s  divide                  {said}"]


def test_fast_progress_is_thinned_to_every_new_tenth() -> None:
    script = Script()
    for permille in range(1000):
        script.add("step_progress", "load", fraction=permille / 1000, at_s=permille / 1e6)
    assert len(lines_of(script)) == 10


def test_slow_progress_is_shown_each_second() -> None:
    script = Script()
    for second in range(5):
        script.add("step_progress", "load", fraction=0.11 + second / 100, at_s=second)
    assert len(lines_of(script)) == 5


def test_what_is_left_out_is_counted_per_step() -> None:
    script = Script()
    for step in ("a", "b"):
        script.add("step_progress", step, fraction=0.5, at_s=0)
    assert len(lines_of(script)) == 2


def test_lines_of_many_executions_begin_with_execution_and_workflow() -> None:
    first, second = Script("e1"), Script("e2")
    first.add("accepted", request={"workflow": "etl"})
    second.add("accepted", request={"workflow": "hello"})
    first.add("step_started", "load")
    lines = PlainLines(named=True)
    texts = [line for event in (*first.events[:1], *second.events, *first.events[1:]) for line in lines.of(event)]
    assert [text.split()[:2] for text in texts] == [["e1", "etl"], ["e2", "hello"], ["e1", "etl"]]


def test_dropped_log_lines_are_told() -> None:
    script = Script()
    script.add("step_log", "load", message="x", dropped=12)
    assert lines_of(script)[0].endswith("info: x (12 lines before it were dropped)")


def test_a_kind_of_a_later_version_is_named() -> None:
    script = Script()
    script.add("step_parked", "load")
    script.add("paused")
    assert [line.split()[1:] for line in lines_of(script)] == [["load", "step", "parked"], ["paused"]]


@given(st.text())
def test_what_a_step_says_cannot_steer_a_terminal_or_forge_a_line(text: str) -> None:
    script = Script()
    script.add("step_log", "load", message=text)
    script.add("step_failed", "load", error=error(text))
    for line in lines_of(script):
        assert line.isprintable()
        assert len(line) <= 500


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("step_skipped", "skipped: route a was taken"),
        ("step_cancelled", "cancelled"),
        ("step_reused", "reused from 01a1"),
        ("step_emitted", "emitted to rows"),
        ("step_checkpointed", "checkpoint"),
    ],
)
def test_every_other_kind_has_its_words(kind: str, ending: str) -> None:
    script = Script()
    script.add(kind, "load")
    assert lines_of(script)[0].endswith(ending)
