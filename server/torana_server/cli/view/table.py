"""The live table: one line a step, at most as many as fit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from torana_server.cli.view.state import ExecutionView, StepView
from torana_server.cli.view.text import one_line, plural, seconds

NAME_WIDTH_MAX = 28
BAR_WIDTH_NARROW = 12
BAR_WIDTH_WIDE = 24
WIDE = 110

_MARKS = {
    "completed": Text("✓", "green"),
    "reused": Text("✓", "cyan"),
    "failed": Text("✗", "red"),
    "skipped": Text("-", "dim"),
    "cancelled": Text("■", "yellow"),
    "retrying": Text("↻", "yellow"),
    "scheduled": Text("·", "dim"),
}
_STYLES = {"failed": "red", "retrying": "yellow", "skipped": "dim", "scheduled": "dim", "cancelled": "yellow"}


def steps_table(view: ExecutionView, now: datetime, *, width: int, height: int, spinner: Spinner) -> Table:
    """`now` is the server's time. `height` bounds the lines; steps that are done give way first."""
    shown, hidden = _fitting(tuple(view.steps.values()), height)
    table = Table.grid(
        Column(width=1),
        Column(no_wrap=True, overflow="ellipsis", max_width=NAME_WIDTH_MAX),
        Column(width=_bar_width(width), no_wrap=True),
        Column(width=4, justify="right", no_wrap=True),
        Column(width=7, justify="right", no_wrap=True),
        Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        padding=(0, 1, 0, 0),
        expand=True,
    )
    if hidden:
        table.add_row("", Text(_hidden_text(hidden), "dim"))
    for step in shown:
        _add_step(table, step, now, _bar_width(width), spinner)
    return table


def _add_step(table: Table, step: StepView, now: datetime, bar_width: int, spinner: Spinner) -> None:
    elapsed_s = step.elapsed_s(now)
    table.add_row(
        spinner if step.state == "running" else _MARKS[step.state],
        Text(step.name, _STYLES.get(step.state, "")),
        _bar(step, bar_width),
        "" if step.fraction is None else f"{step.fraction:.0%}",
        "" if elapsed_s is None else seconds(elapsed_s),
        _note(step),
    )


def _bar(step: StepView, width: int) -> ProgressBar | str:
    if step.fraction is None:
        return ""
    style = "yellow" if step.state in ("failed", "cancelled") else "bar.complete"
    return ProgressBar(total=1.0, completed=step.fraction, width=width, complete_style=style)


def _note(step: StepView) -> Text:
    attempt = f"attempt {step.attempt} " if step.attempt > 1 else ""
    said = step.state if step.state in ("skipped", "cancelled", "retrying", "reused") else ""
    note = ": ".join(part for part in (said, step.message) if part)
    return Text.assemble((attempt, "yellow"), (one_line(note), _STYLES.get(step.state, "dim")))


def _fitting(steps: Sequence[StepView], height: int) -> tuple[list[StepView], list[StepView]]:
    """The steps to show, and those that are hidden to make room."""
    excess = len(steps) + 1 - height
    if len(steps) <= height:
        return list(steps), []
    finished = [step for step in steps if step.is_finished and step.state != "failed"]
    others = [step for step in reversed(steps) if step not in finished]
    hidden = [*finished, *others][:excess]
    return [step for step in steps if step not in hidden], hidden


def _hidden_text(hidden: Sequence[StepView]) -> str:
    finished = sum(step.is_finished for step in hidden)
    texts = [f"{plural(finished, 'step')} done"] if finished else []
    if len(hidden) > finished:
        texts.append(f"{len(hidden) - finished} more to come")
    return ", ".join(texts)


def _bar_width(width: int) -> int:
    return BAR_WIDTH_WIDE if width >= WIDE else BAR_WIDTH_NARROW
