"""Where the events of one execution go: a live table, plain lines, JSON lines, or nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from torana import Event, ExecutionResult
from torana_server.cli import output
from torana_server.cli.output import Format
from torana_server.cli.view import (
    ExecutionView,
    PlainLines,
    applied,
    event_members,
    in_order,
    one_line,
    outcome_lines,
    result_lines,
    seconds,
    steps_table,
    value_json,
)
from torana_server.cli.view.lines import log_text

HEIGHT_LEFT_FREE = 4
PIPED_WIDTH = 100
LOG_STYLES = {"warning": "yellow", "error": "red", "debug": "dim"}


class Display(Protocol):
    """Used as a context around the whole stream; `end` comes after it, once, when the execution has ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Event) -> None: ...

    def note(self, text: str) -> None:
        """A remark of the command itself, between the events."""
        ...

    def end(self, result: ExecutionResult) -> None: ...


class _Unframed:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class ItemDisplay(_Unframed):
    """One JSON object an event and line, or one YAML document an event, and nothing else."""

    def __init__(self, form: Format = Format.JSON) -> None:
        self._form = form

    def show(self, event: Event) -> None:
        output.item(event_members(event), self._form)

    def note(self, text: str) -> None:
        output.note(text)

    def end(self, result: ExecutionResult) -> None:
        return None


class QuietDisplay(_Unframed):
    """The whole result as JSON or YAML, after the end; an error goes to standard error."""

    def __init__(self, form: Format = Format.JSON) -> None:
        self._form = form
        self._view = ExecutionView()

    def show(self, event: Event) -> None:
        self._view = applied(self._view, event)

    def note(self, text: str) -> None:
        output.note(text)

    def end(self, result: ExecutionResult) -> None:
        if result.is_success:
            output.whole(in_order(result, self._view), self._form)
            return
        for line in outcome_lines(self._view):
            output.stderr().print(line)


class PlainDisplay(_Unframed):
    """A line an event, for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = PlainLines()
        self._view = ExecutionView()

    def show(self, event: Event) -> None:
        self._view = applied(self._view, event)
        for line in self._lines.of(event):
            self._console.print(line)

    def note(self, text: str) -> None:
        self._console.print(f"-- {text}")

    def end(self, result: ExecutionResult) -> None:
        print_end(self._view, result, self._console)


class LiveDisplay:
    """A table that redraws itself, with log lines scrolling above it."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._view = ExecutionView()
        self._seen_at = clock()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(self, console=console, refresh_per_second=12, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self._view
        if view.latest_time is None:
            yield Text("waiting for the server …", "dim")
            return
        ended = view.state in ("completed", "failed", "cancelled")
        now = view.latest_time + timedelta(seconds=0 if ended else self._clock() - self._seen_at)
        height = len(view.steps) if ended else max(console.height - HEIGHT_LEFT_FREE, 3)
        yield steps_table(view, now, width=options.max_width, height=height, spinner=self._spinner)

    def show(self, event: Event) -> None:
        self._seen_at = self._clock()
        self._view = applied(self._view, event)
        line = self._scrolling(event)
        if line is not None:
            self._console.print(line)

    def note(self, text: str) -> None:
        self._console.print(Text(text, "bold yellow"))

    def end(self, result: ExecutionResult) -> None:
        print_end(self._view, result, self._console)

    def _scrolling(self, event: Event) -> Text | None:
        """What the table has no place for."""
        match event.kind:
            case "accepted":
                workflow = event.data["request"]["workflow"]
                return Text.assemble((one_line(workflow), "bold"), (f"  {event.execution}", "dim"))
            case "step_log":
                said, style = log_text(event), LOG_STYLES.get(event.data["level"], "")
            case "step_emitted":
                said, style = f"{event.data['topic']}: {value_json(event.data['value'])}", "cyan"
            case "step_retrying":
                error = event.data["error"]
                said, style = f"attempt {event.attempt} failed: {error.type}: {error.message}", "yellow"
            case "recovered":
                said, style = "a server went on where the last one stopped", "yellow"
            case _:
                return None
        elapsed = seconds(self._view.elapsed_s)
        return Text.assemble((f"{elapsed:>7} {event.step} ", "dim"), (one_line(said), style))


def print_end(view: ExecutionView, result: ExecutionResult, console: Console) -> None:
    output.print_json(result_lines(result, view, PIPED_WIDTH if console.soft_wrap else console.width), console)
    for line in outcome_lines(view):
        console.print(line)


def display_for(form: Format, *, quiet: bool, console: Console | None = None) -> Display:
    """Quiet is the result alone, as JSON unless YAML is asked for."""
    if quiet:
        return QuietDisplay(Format.YAML if form is Format.YAML else Format.JSON)
    if form is not Format.TABLE:
        return ItemDisplay(form)
    console = console or output.stdout()
    return LiveDisplay(console) if output.is_screen(console) else PlainDisplay(console)
