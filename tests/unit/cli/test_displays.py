"""Displays on terminals and pipes."""

from __future__ import annotations

import io
import json
import re

import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from torana_server.cli.displays import (
    Display,
    ItemDisplay,
    LiveDisplay,
    PlainDisplay,
    QuietDisplay,
    display_for,
)
from torana_server.cli.output import Format
from unit.cli.events import Script, error, result

LONG = "a message that is much longer than eighty columns so that it must be cut or wrapped somewhere, and then some"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def script() -> Script:
    script = Script()
    script.add("accepted")
    script.add("step_started", "extract")
    script.add("step_progress", "extract", fraction=0.5, message=LONG)
    script.add("step_log", "extract", level="warning", message="odd row")
    script.add("step_emitted", "extract")
    script.add("step_retrying", "extract", error=error(), next_attempt_time=None)
    script.add("step_started", "extract", attempt=2)
    script.add("step_completed", "extract")
    script.add("completed")
    return script


def play(display: Display, script: Script) -> None:
    with display:
        for event in script.events:
            display.show(event)
    display.end(result({"extract": {"rows": 3}}))


def pipe(screen: io.StringIO) -> Console:
    console = Console(file=screen, width=80)
    console.soft_wrap = True
    return console


def terminal(screen: io.StringIO, width: int, **variables: str) -> Console:
    kind = {"TERM": "xterm-256color", **variables}
    return Console(file=screen, width=width, height=24, force_terminal=True, color_system="truecolor", _environ=kind)


def test_a_pipe_gets_whole_lines_without_escapes(script) -> None:
    screen = io.StringIO()
    play(PlainDisplay(pipe(screen)), script)
    text = screen.getvalue()
    assert "\x1b" not in text
    assert any(line.endswith(LONG) for line in text.splitlines())
    assert text.splitlines()[-2:] == ['{"extract": {"rows": 3}}', "✓ completed etl in 0.80s · 1 completed · 9 events"]


@pytest.mark.parametrize("width", [80, 160])
def test_no_line_on_a_terminal_is_wider_than_it(script, width: int) -> None:
    screen = io.StringIO()
    play(LiveDisplay(terminal(screen, width)), script)
    lines = ESCAPE.sub("", screen.getvalue()).replace("\r", "\n").splitlines()
    assert max(cell_len(line.rstrip()) for line in lines) <= width


def test_a_terminal_shows_logs_above_the_table_and_the_table_once_it_has_ended(script) -> None:
    screen = io.StringIO()
    play(LiveDisplay(terminal(screen, 80)), script)
    text = ESCAPE.sub("", screen.getvalue())
    last_table = text.rindex("✓ extract")
    assert text.index("odd row") < last_table < text.index('"rows": 3')
    assert "attempt 1 failed: ZeroDivisionError" in text
    assert 'rows: {"n": 1}' in text


def test_a_terminal_says_that_it_waits_before_the_first_event() -> None:
    screen = io.StringIO()
    with LiveDisplay(terminal(screen, 80)):
        pass
    assert "waiting for the server" in screen.getvalue()


def test_no_color_leaves_colours_out(script) -> None:
    screen = io.StringIO()
    play(LiveDisplay(terminal(screen, 80, NO_COLOR="1")), script)
    colours = [code for code in re.findall(r"\x1b\[([0-9;]*)m", screen.getvalue()) if re.match(r"3[0-7]|38;", code)]
    assert not colours


def test_json_is_an_object_a_line_and_nothing_else(script, capsys) -> None:
    play(ItemDisplay(), script)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, 10))


def test_quiet_is_the_whole_result_and_nothing_else(script, capsys) -> None:
    display = QuietDisplay()
    with display:
        for event in script.events:
            display.show(event)
    display.end(result({"extract": list(range(1_000))}))
    assert json.loads(capsys.readouterr().out) == {"extract": list(range(1_000))}


def test_quiet_says_on_standard_error_what_failed(capsys) -> None:
    script = Script()
    script.add("accepted")
    script.add("failed", error=error(), outputs={})
    display = QuietDisplay()
    display.show(script.events[0])
    display.show(script.events[1])
    display.end(result({}, "failed"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ZeroDivisionError: division by zero" in captured.err


def test_the_display_fits_what_was_asked_and_where_it_goes() -> None:
    screen = io.StringIO()
    assert isinstance(display_for(Format.JSON, quiet=False), ItemDisplay)
    assert isinstance(display_for(Format.YAML, quiet=False), ItemDisplay)
    assert isinstance(display_for(Format.TABLE, quiet=True), QuietDisplay)
    assert isinstance(display_for(Format.TABLE, quiet=False, console=pipe(screen)), PlainDisplay)
    assert isinstance(display_for(Format.TABLE, quiet=False, console=terminal(screen, 80)), LiveDisplay)


def test_colours_that_are_forced_make_no_screen_of_a_pipe() -> None:
    forced = Console(file=io.StringIO(), width=80, force_terminal=True)
    forced.soft_wrap = True
    assert isinstance(display_for(Format.TABLE, quiet=False, console=forced), PlainDisplay)


def test_a_terminal_that_cannot_draw_gets_lines() -> None:
    dumb = Console(file=io.StringIO(), width=80, force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(display_for(Format.TABLE, quiet=False, console=dumb), PlainDisplay)


def test_yaml_is_a_document_an_event(script, capsys) -> None:
    play(ItemDisplay(Format.YAML), script)
    events = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [event["sequence"] for event in events] == list(range(1, 10))
