"""Steps as bars over time: when each attempt ran, when it waited for the next one, how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from rich.text import Text

from torana import Event, Execution
from torana_server.cli.view.listing import STATE_STYLES
from torana_server.cli.view.text import one_line, seconds

NAME_WIDTH_MAX = 28
BARS_WIDTH_MIN = 16
OPEN = "running"

_UNICODE = {"completed": "█", "failed": "▒", "cancelled": "▒", "superseded": "▒", OPEN: "█", "pause": "·"}
_ASCII = {"completed": "=", "failed": "x", "cancelled": "x", "superseded": "x", OPEN: "=", "pause": "."}
_BAR_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "superseded": "yellow", OPEN: "cyan"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """`outcome` is "completed", "failed", "cancelled", "superseded" (a server went on for another) or "running"."""

    number: int
    start: datetime
    end: datetime | None = None
    outcome: str = OPEN


@dataclass(frozen=True, slots=True)
class Lane:
    """One step. `state` is that of StepView, or of StepStatus."""

    step: str
    state: str
    attempts: tuple[Attempt, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """`end` is when the execution ended, or now."""

    start: datetime
    end: datetime
    lanes: Sequence[Lane] = field(default_factory=tuple)


_ENDS = {
    "step_completed": ("completed", "completed"),
    "step_failed": ("failed", "failed"),
    "step_retrying": ("failed", "retrying"),
    "step_cancelled": ("cancelled", "cancelled"),
}


def lanes_of(events: Iterable[Event]) -> list[Lane]:
    """In the order in which steps appeared."""
    lanes: dict[str, Lane] = {}
    for event in events:
        if event.kind == "recovered":
            lanes = {name: _superseded(lane, event.time) for name, lane in lanes.items()}
        elif event.step:
            lanes[event.step] = _advanced(lanes.get(event.step) or Lane(event.step, "scheduled"), event)
    return list(lanes.values())


def lanes_of_statuses(execution: Execution) -> list[Lane]:
    """For an execution whose events have expired: one bar a step, from its first attempt to its last."""
    return [
        Lane(
            one.step,
            one.state,
            (Attempt(one.attempt, one.start_time, one.end_time, one.state),) if one.start_time else (),
            f"{one.attempt} attempts" if one.attempt > 1 else "",
        )
        for one in execution.steps
    ]


def _advanced(lane: Lane, event: Event) -> Lane:
    if event.kind == "step_started":
        attempt = Attempt(max(event.attempt, 1), event.time)
        return replace(lane, state="running", attempts=(*lane.attempts, attempt))
    if event.kind in _ENDS:
        outcome, state = _ENDS[event.kind]
        return replace(lane, state=state, attempts=_ended(lane.attempts, event.time, outcome))
    if event.kind == "step_skipped":
        return replace(lane, state="skipped", reason=event.data["reason"])
    if event.kind == "step_reused":
        return replace(lane, state="reused", reason=f"from {event.data['execution']}")
    return lane


def _superseded(lane: Lane, at: datetime) -> Lane:
    if lane.state != "running":
        return lane
    return replace(lane, state="scheduled", attempts=_ended(lane.attempts, at, "superseded"))


def _ended(attempts: tuple[Attempt, ...], at: datetime, outcome: str) -> tuple[Attempt, ...]:
    if not attempts or attempts[-1].end is not None:
        return attempts
    return (*attempts[:-1], replace(attempts[-1], end=at, outcome=outcome))


def waterfall_lines(waterfall: Waterfall, *, width: int, unicode: bool) -> list[Text]:
    """A head with the scale, then a line a step."""
    if not waterfall.lanes:
        return []
    name_width = min(max(len(lane.step) for lane in waterfall.lanes), NAME_WIDTH_MAX)
    state_width = max(len(lane.state) for lane in waterfall.lanes)
    tries_width = 4 if any(_tries(lane) for lane in waterfall.lanes) else 0
    left = name_width + 2 + state_width + 2 + tries_width + 7 + 2
    bars = max(width - left - 1, BARS_WIDTH_MIN)
    lines = [Text.assemble(" " * left, (_scale(waterfall, bars), "dim"))]
    for lane in waterfall.lanes:
        lines.append(
            Text.assemble(
                f"{_cut(lane.step, name_width, unicode=unicode):<{name_width}}  ",
                (f"{lane.state:<{state_width}}  ", STATE_STYLES.get(lane.state, "")),
                (f"{_tries(lane):<{tries_width}}", "yellow"),
                f"{_took(lane, waterfall.end):>7}  ",
                _bar(lane, waterfall, bars, _UNICODE if unicode else _ASCII),
            )
        )
    return lines


def _tries(lane: Lane) -> str:
    return f"x{len(lane.attempts)}" if len(lane.attempts) > 1 else ""


def _took(lane: Lane, now: datetime) -> str:
    """From the start of the first attempt to the end of the last."""
    if not lane.attempts:
        return ""
    return seconds(max(0.0, ((lane.attempts[-1].end or now) - lane.attempts[0].start).total_seconds()))


def _scale(waterfall: Waterfall, width: int) -> str:
    """The times at both ends, and in the middle where there is room."""
    total_s = max(0.0, (waterfall.end - waterfall.start).total_seconds())
    first, middle, last = "0s", seconds(total_s / 2), seconds(total_s)
    room = width - len(first) - len(last)
    return f"{first}{middle if room > len(middle) + 4 else '':^{room}}{last}"


def _bar(lane: Lane, waterfall: Waterfall, width: int, signs: Mapping[str, str]) -> Text:
    if not lane.attempts:
        return Text(_cut(one_line(lane.reason), width, unicode=signs is _UNICODE), "dim")
    cells = [(" ", "")] * width
    first, last = lane.attempts[0], lane.attempts[-1]
    start, end = _cell(first.start, waterfall, width), _cell(last.end or waterfall.end, waterfall, width)
    for x in range(start, end + 1):
        cells[x] = (signs["pause"], "dim")
    for attempt in lane.attempts:
        start, end = (_cell(at, waterfall, width) for at in (attempt.start, attempt.end or waterfall.end))
        sign = signs.get(attempt.outcome, signs[OPEN])
        for x in range(start, end + 1):
            cells[x] = (sign, _BAR_STYLES.get(attempt.outcome, ""))
    bar = Text.assemble(*cells)
    bar.rstrip()
    return bar


def _cell(at: datetime, waterfall: Waterfall, width: int) -> int:
    total_s = (waterfall.end - waterfall.start).total_seconds()
    share = (at - waterfall.start).total_seconds() / total_s if total_s > 0 else 0.0
    return min(max(int(share * width), 0), width - 1)


def _cut(name: str, width: int, *, unicode: bool) -> str:
    mark = "…" if unicode else "~"
    return name if len(name) <= width else f"{name[: width - 1]}{mark}"
