"""The live table at several widths and heights."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.spinner import Spinner

from torana_server.cli.view import ExecutionView, steps_table
from unit.cli.events import START, Script, error

LONG = "a very long message about pages that goes on and on and does not fit into any terminal of eighty columns"


def drawn(view: ExecutionView, width: int, height: int = 40, *, terminal: bool = False) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=terminal, get_time=lambda: 0.0, color_system=None)
    now = START + timedelta(seconds=10)
    console.print(steps_table(view, now, width=width, height=height, spinner=Spinner("dots")))
    return [line.rstrip() for line in screen.getvalue().splitlines()]


@pytest.fixture
def script() -> Script:
    script = Script()
    script.add("step_started", "extract")
    script.add("step_progress", "extract", fraction=0.5, message="page 1")
    script.add("step_started", "transform", attempt=2)
    script.add("step_completed", "extract", at_s=2)
    script.add("step_scheduled", "load")
    return script


def test_a_line_a_step_with_mark_bar_share_time_and_message(script) -> None:
    lines = drawn(script.view, 80)
    assert [line.split()[0:2] for line in lines] == [["✓", "extract"], ["⠋", "transform"], ["·", "load"]]
    assert lines[0].split()[-5:] == ["━━━━━━━━━━━━", "100%", "2.00s", "page", "1"]
    assert lines[1].split()[-3:] == ["9.80s", "attempt", "2"]


@pytest.mark.parametrize("width", [40, 80, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    script = Script()
    for step in ("a", "step_" + "x" * 100, "漢字" * 20):
        script.add("step_started", step)
        script.add("step_progress", step, fraction=0.3, message=LONG)
    lines = drawn(script.view, width)
    assert len(lines) == 3
    assert max(cell_len(line) for line in lines) <= width


def test_a_wide_terminal_has_a_longer_bar_and_the_whole_message(script) -> None:
    script.add("step_progress", "transform", fraction=1.0, message=LONG)
    narrow, wide = (drawn(script.view, width)[1] for width in (80, 200))
    assert LONG in wide
    assert LONG not in narrow
    assert (narrow.count("━"), wide.count("━")) == (12, 24)


def test_steps_that_are_done_give_way_when_there_are_more_than_fit() -> None:
    script = Script()
    for number in range(50):
        script.add("step_started", f"step_{number}")
        if number < 45:
            script.add("step_completed", f"step_{number}")
    lines = drawn(script.view, 80, height=10)
    assert len(lines) == 10
    assert lines[0].strip() == "41 steps done"
    assert [line.split()[1] for line in lines[5:]] == [f"step_{number}" for number in range(45, 50)]


def test_when_even_the_running_steps_do_not_fit_the_rest_is_counted() -> None:
    script = Script()
    for number in range(30):
        script.add("step_started", f"step_{number}")
    lines = drawn(script.view, 80, height=10)
    assert len(lines) == 10
    assert lines[0].strip() == "21 more to come"


def test_a_failed_step_stays_in_sight() -> None:
    script = Script()
    script.add("step_failed", "first", error=error(), handled=False)
    for number in range(30):
        script.add("step_completed", f"step_{number}")
    assert any("✗ first" in line and "division by zero" in line for line in drawn(script.view, 80, height=5))


def test_what_a_step_says_cannot_steer_the_terminal() -> None:
    script = Script()
    script.add("step_progress", "load", message="\x1b[2Jgone\x1b]0;title\x07 [red]x[/red]")
    text = "\n".join(drawn(script.view, 160))
    assert "\x1b" not in text
    assert "[red]x[/red]" in text
