"""The end of an execution in words: what it took, what came out, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from torana import ExecutionError, ExecutionResult
from torana_server.cli.view.pretty import one_line_of, pretty_lines
from torana_server.cli.view.state import ExecutionView
from torana_server.cli.view.text import one_line, plural, seconds

RESULT_LINES_MAX = 40
TRACEBACK_LINES_MAX = 30
CAUSES_MAX = 5

_STATES = ("completed", "failed", "cancelled", "skipped")
"""As a closing line counts them; others follow."""
_MARKS = {"completed": ("✓", "bold green"), "failed": ("✗", "bold red"), "cancelled": ("■", "bold yellow")}


def in_order(result: ExecutionResult, view: ExecutionView) -> dict[str, Any]:
    """The outputs in the order in which their steps appeared; those that nobody saw come last."""
    places = {name: place for place, name in enumerate(view.steps)}
    return dict(sorted(result.result.items(), key=lambda item: places.get(item[0], len(places))))


def outcome_lines(view: ExecutionView) -> list[Text]:
    """The closing line, and the error with the lines of the workflow it came from."""
    mark, style = _MARKS[view.state]
    steps = Counter(step.state for step in view.steps.values())
    counts = ", ".join(f"{steps[state]} {state}" for state in sorted(steps, key=_place))
    closing = Text.assemble(
        (f"{mark} {view.state}", style),
        f" {one_line(view.workflow)}".rstrip(),
        f" in {seconds(view.elapsed_s)}",
        (f" · {counts or 'no steps'} · {plural(view.event_count, 'event')}", "dim"),
    )
    return [closing, *(error_lines(view.error) if view.error else ())]


def _place(state: str) -> tuple[int, str]:
    return (_STATES.index(state) if state in _STATES else len(_STATES), state)


def error_lines(error: ExecutionError) -> Iterator[Text]:
    for depth, one in enumerate(_chain(error)):
        where = f"step {one.step}, attempt {one.attempt}: " if one.step and not depth else ""
        said = "caused by " if depth else ""
        yield Text.assemble("  ", (f"{said}{where}{one.type}: ", "red"), one_line(one.message))
        for line in _shortened(one.traceback.rstrip("\n").split("\n") if one.traceback else []):
            yield Text(f"    {one_line(line)}", style="dim")


def _chain(error: ExecutionError | None) -> Iterator[ExecutionError]:
    for _ in range(CAUSES_MAX):
        if error is None:
            return
        yield error
        error = error.cause


def _shortened(lines: list[str]) -> list[str]:
    """The end of a traceback is where the error is."""
    if len(lines) <= TRACEBACK_LINES_MAX:
        return lines
    return ["…", *lines[-TRACEBACK_LINES_MAX:]]


def result_lines(result: ExecutionResult, view: ExecutionView, width: int) -> list[str]:
    """The outputs as JSON, steps in the order of `view`: shortened; when long even so, a line of `width` a step."""
    if not result.result:
        return []
    outputs = in_order(result, view)
    lines = pretty_lines(outputs)
    if len(lines) <= RESULT_LINES_MAX:
        return lines
    short = [one_line_of(step, output, width) for step, output in outputs.items()]
    kept = short[-RESULT_LINES_MAX:]
    missing = f" of the last {len(kept)} steps" if len(kept) < len(short) else ""
    return [*kept, f"(shortened outputs{missing}; --quiet prints all of them)"]
