"""Everything that happened in an execution, and what tests ask of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple, NoReturn

from torana_server.execution import ExecutionError
from torana_server.native import Event
from torana_server.request import WorkflowResponse

_LEVELS = ("debug", "info", "warning", "error")
_DETAIL_CHARS_MAX = 60


class Progress(NamedTuple):
    """One report. `data` is what came with it by keyword, or None."""

    fraction: float
    message: str
    data: Any


class LogLine(NamedTuple):
    step: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A finished execution. What a test says of it and is not so raises AssertionError with a table of all events.

    Moments have names: `extract started`, `extract retrying`, `extract completed`, and of the execution itself
    `accepted`, `started`, `completed`, `failed`, `cancelled`, `recovered`.
    """

    workflow: str
    response: WorkflowResponse
    events: tuple[Event, ...]

    # what happened

    @property
    def execution_id(self) -> str:
        return self.response.execution_id

    @property
    def status(self) -> str:
        """`completed`, `failed` or `cancelled`."""
        return self.response.status

    @property
    def result(self) -> dict[str, object]:
        """The output of each step that completed."""
        return self.response.result

    @property
    def error(self) -> ExecutionError | None:
        return self.response.error

    @property
    def moments(self) -> list[str]:
        """The name of each event, in order."""
        return [moment(event) for event in self.events]

    @property
    def duration_s(self) -> float:
        """From the first event to the last."""
        return (self.events[-1].time - self.events[0].time).total_seconds()

    def attempts(self, step: str) -> int:
        """How often the step was started."""
        return len(self._data("step_started", step))

    def retries(self, step: str) -> list[float]:
        """How long each retry of the step was put off, in seconds."""
        return [_pause_s(event) for event in self._of("step_retrying", step)]

    def emitted(self, topic: str, step: str = "") -> list[Any]:
        """What steps handed out under the topic, in order."""
        return [data["value"] for data in self._data("step_emitted", step) if data["topic"] == topic]

    def progress(self, step: str = "") -> list[Progress]:
        found = self._data("step_progress", step)
        return [Progress(data["fraction"], data["message"], data["data"]) for data in found]

    def logs(self, step: str = "", level: str = "debug") -> list[LogLine]:
        """Log lines of this level (debug, info, warning, error) and above."""
        wanted = _LEVELS[_LEVELS.index(level.lower()) :]
        lines = [
            LogLine(event.step, event.data["level"], event.data["message"]) for event in self._of("step_log", step)
        ]
        return [line for line in lines if line.level in wanted]

    # what should have

    def assert_completed(self, **outputs: object) -> Recording:
        """It completed, and the steps named have these outputs."""
        __tracebackhide__ = True
        if self.status != "completed":
            self.refuse(f"should have completed, but {self.status}{self._why()}")
        for step, output in outputs.items():
            if step not in self.result:
                self.refuse(f"step {step!r} has no output; those that have: {_listed(self.result)}")
            if self.result[step] != output:
                self.refuse(f"step {step!r} should have the output {output!r}, not {self.result[step]!r}")
        return self

    def assert_failed(self, *, step: str = "", type: str = "", match: str = "") -> Recording:
        """It failed; where given, at this step, with this type or reason of error, with a message in which the pattern
        `match` is found."""
        __tracebackhide__ = True
        error = self.error
        if self.status != "failed" or error is None:
            self.refuse(f"should have failed, but {self.status}")
        if step and error.step != step:
            self.refuse(f"should have failed at step {step!r}, but at {error.step!r}{self._why()}")
        if type and type not in (error.type, error.reason):
            self.refuse(f"should have failed with {type}, but with {error.type}{self._why()}")
        if match and not re.search(match, error.message):
            self.refuse(f"should have failed with a message that matches {match!r}{self._why()}")
        return self

    def assert_cancelled(self) -> Recording:
        __tracebackhide__ = True
        if self.status != "cancelled":
            self.refuse(f"should have been cancelled, but {self.status}{self._why()}")
        return self

    def assert_happened(self, *moments: str) -> Recording:
        """These moments came in this order, whatever else came between them."""
        __tracebackhide__ = True
        rest: Iterator[str] = iter(self.moments)
        for number, wanted in enumerate(moments):
            if wanted not in rest:
                after = f" after {moments[number - 1]!r}" if number else ""
                self.refuse(f"{wanted!r} should have happened{after}")
        return self

    def assert_never(self, *moments: str) -> Recording:
        """None of these moments came."""
        __tracebackhide__ = True
        happened = [wanted for wanted in moments if wanted in self.moments]
        if happened:
            self.refuse(f"{_listed(happened)} should not have happened")
        return self

    def assert_step_order(self, *steps: str) -> Recording:
        """Each step started after the one before it had completed."""
        __tracebackhide__ = True
        for earlier, later in itertools.pairwise(steps):
            self.assert_happened(f"{earlier} completed", f"{later} started")
            started = self.moments.index(f"{later} started")
            if f"{earlier} completed" not in self.moments[:started]:
                self.refuse(f"{later!r} should have waited for {earlier!r}")
        return self

    def assert_attempts(self, **steps: int) -> Recording:
        """The steps were started so many times."""
        __tracebackhide__ = True
        for step, wanted in steps.items():
            if (found := self.attempts(step)) != wanted:
                self.refuse(f"step {step!r} should have started {_times(wanted)}, not {_times(found)}")
        return self

    def refuse(self, complaint: str) -> NoReturn:
        """Raises AssertionError: the complaint, and what happened."""
        __tracebackhide__ = True
        raise AssertionError(f"workflow {self.workflow!r}: {complaint}\n\n{self.table()}")

    def table(self) -> str:
        """All events, for people."""
        rows = [("seq", "time", "event", "attempt", "detail"), *map(self._row, self.events)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
            for row in rows
        )

    # parts

    def _row(self, event: Event) -> tuple[str, str, str, str, str]:
        at = f"+{(event.time - self.events[0].time).total_seconds():.3f}s"
        return str(event.sequence), at, moment(event), str(event.attempt or ""), _detail(event)

    def _of(self, kind: str, step: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind and (not step or event.step == step)]

    def _data(self, kind: str, step: str) -> list[Mapping[str, Any]]:
        return [event.data for event in self._of(kind, step)]

    def _why(self) -> str:
        error = self.error
        return "" if error is None else f": {error.step or 'the execution'}: {error.type}: {error.message}"


def moment(event: Event) -> str:
    """The event's name: `extract started`, `completed`."""
    name = event.kind.removeprefix("step_")
    return f"{event.step} {name}" if event.step else name


def _pause_s(event: Event) -> float:
    pause: timedelta = event.data["next_attempt_time"] - event.time
    return pause.total_seconds()


def _error(event: Event) -> str:
    error: ExecutionError = event.data["error"]
    return f"{error.type}: {error.message}"


_DETAILS: Final[Mapping[str, Callable[[Event], str]]] = {
    "step_completed": lambda event: repr(event.data["output"]),
    "step_failed": _error,
    "failed": _error,
    "step_retrying": lambda event: f"in {_pause_s(event):g} s: {_error(event)}",
    "step_emitted": lambda event: f"{event.data['topic']}: {event.data['value']!r}",
    "step_progress": lambda event: f"{event.data['fraction']:.0%} {event.data['message']}",
    "step_log": lambda event: f"{event.data['level']}: {event.data['message']}",
    "step_skipped": lambda event: str(event.data["reason"]),
    "step_cancelled": lambda event: str(event.data["reason"]),
}


def _detail(event: Event) -> str:
    tell = _DETAILS.get(event.kind)
    line = " ".join(tell(event).split()) if tell is not None else ""
    return line if len(line) <= _DETAIL_CHARS_MAX else f"{line[: _DETAIL_CHARS_MAX - 1]}…"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
