"""Executions in lists, and one in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.text import Text

from torana import Execution
from torana_server.cli.view.listing import STATE_STYLES, Cell, Head, Listing, state_cell, text_cell, time_cell
from torana_server.cli.view.text import one_line, seconds


def executions_listing(executions: Sequence[Execution], now: datetime) -> Listing:
    heads = Head("id"), Head("workflow", gives_way=True), Head("state"), Head("age", right=True)
    return Listing(
        heads=(*heads, Head("took", right=True)),
        rows=[
            (
                text_cell(one.id),
                text_cell(one.workflow),
                state_cell(one.state),
                time_cell(one.create_time, now),
                _took(one, now),
            )
            for one in executions
        ],
        empty="no execution matches",
    )


def _took(execution: Execution, now: datetime) -> Cell:
    """Of what runs: so far. Seconds as a number for a pipe."""
    if execution.start_time is None:
        return text_cell("")
    elapsed_s = max(0.0, ((execution.end_time or now) - execution.start_time).total_seconds())
    return Cell(f"{elapsed_s:.6f}", Text(seconds(elapsed_s)))


def execution_heading(execution: Execution, now: datetime) -> Iterator[Text]:
    took = "" if execution.start_time is None else f" {_ended(execution)} {_took(execution, now).shown.plain}"
    yield Text.assemble(
        (one_line(execution.workflow), "bold"),
        "  ",
        (execution.state, f"bold {STATE_STYLES.get(execution.state, '')}".strip()),
        took,
        (f"  {execution.id}", "dim"),
    )
    facts = {
        "accepted": _time(execution.create_time),
        "revision": execution.revision[:12],
        "labels": ", ".join(f"{key}={value}" for key, value in execution.labels.items()),
        "session": execution.session_id,
        "retries": execution.retry_of,
        "retried as": execution.retried_as,
        "blocked": execution.blocked_reason,
    }
    yield from (Text.assemble((f"{name:<11}", "dim"), one_line(text)) for name, text in facts.items() if text)


def step_error_lines(execution: Execution) -> Iterator[Text]:
    """Errors of steps that are not the execution's: those that a route took over, or that a retry follows."""
    for step in execution.steps:
        if step.error and step.state != "completed" and not (execution.error and execution.error.step == step.step):
            said = one_line(f"{step.error.type}: {step.error.message}")
            yield Text.assemble("  ", (f"step {step.step}, attempt {step.attempt}: ", "red"), said)


def _ended(execution: Execution) -> str:
    return "in" if execution.is_finished else "for"


def _time(at: datetime | None) -> str:
    return at.isoformat(sep=" ", timespec="seconds") if at else ""
