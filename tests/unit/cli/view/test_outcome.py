"""The end of an execution in words."""

from __future__ import annotations

import json

from torana_server.cli.view import outcome_lines, result_lines
from unit.cli.events import Script, error, result


def test_the_closing_line_says_how_long_it_took_and_what_became_of_the_steps() -> None:
    script = Script()
    script.add("accepted")
    for step in ("a", "b"):
        script.add("step_completed", step)
    script.add("step_skipped", "c")
    script.add("completed", at_s=125)
    assert outcome_lines(script.view)[0].plain == "✓ completed etl in 2m 05s · 2 completed, 1 skipped · 5 events"


def test_steps_that_completed_are_counted_first() -> None:
    script = Script()
    script.add("accepted")
    script.add("step_cancelled", "a", reason="")
    script.add("step_completed", "b")
    script.add("cancelled", at_s=1, reason="")
    assert "· 1 completed, 1 cancelled ·" in outcome_lines(script.view)[0].plain


def test_an_error_comes_with_the_lines_of_the_workflow_and_its_causes() -> None:
    cause = error("refused", type="ConnectionError")
    failure = error(traceback='File "<step etl.divide>", line 4, in divide\n  return 1 / 0\n', cause=cause)
    script = Script()
    script.add("accepted")
    script.add("failed", error=failure, outputs={})
    assert [line.plain for line in outcome_lines(script.view)[1:]] == [
        "  step divide, attempt 1: ZeroDivisionError: division by zero",
        '    File "<step etl.divide>", line 4, in divide',
        "      return 1 / 0",
        "  caused by ConnectionError: refused",
    ]


def test_a_long_traceback_keeps_its_end() -> None:
    failure = error(traceback="\n".join(f"line {number}" for number in range(500)))
    script = Script()
    script.add("failed", error=failure, outputs={})
    lines = [line.plain.strip() for line in outcome_lines(script.view)]
    assert len(lines) < 40
    assert lines[-1] == "line 499"


def test_an_error_cannot_steer_the_terminal() -> None:
    script = Script()
    script.add("failed", error=error("\x1b[2J\r\nforged", traceback="\x1b]0;x\x07"), outputs={})
    assert all(line.plain.isprintable() for line in outcome_lines(script.view))


def test_a_small_result_is_json_in_the_order_of_the_steps() -> None:
    script = Script()
    for step in ("first", "second"):
        script.add("step_completed", step)
    lines = result_lines(result({"second": {"rows": 3}, "first": [1, 2]}), script.view, 80)
    assert list(json.loads("\n".join(lines)).items()) == [("first", [1, 2]), ("second", {"rows": 3})]


def test_a_long_result_is_a_line_a_step_that_fits_the_width_and_says_so() -> None:
    outputs = {f"step_{number}": {f"field_{n}": "x" * 50 for n in range(20)} for number in range(8)}
    lines = result_lines(result(outputs), Script().view, 80)
    assert len(lines) == 9
    assert max(map(len, lines)) <= 80
    assert "--quiet" in lines[-1]


def test_no_result_has_more_lines_than_a_screen_or_two() -> None:
    outputs = {f"step_{number}": {"n": "x" * 100} for number in range(1_000)}
    lines = result_lines(result(outputs), Script().view, 80)
    assert len(lines) == 41
    assert "of the last 40 steps" in lines[-1]


def test_nothing_is_said_of_an_empty_result() -> None:
    assert result_lines(result({}, "failed"), Script().view, 80) == []
