"""Plain lines for pipes and logs: one an event, thinned where steps report progress faster than anyone reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from torana import Event
from torana_server.cli.view.text import one_line

PROGRESS_PAUSE_S = 1.0
"""A step's progress is written at most so often, and at every new tenth."""
NAME_CHARACTERS = 22


class PlainLines:
    """The lines of one execution, or of many when `named`: then each begins with its execution and workflow."""

    def __init__(self, *, named: bool = False) -> None:
        self._named = named
        self._workflows: dict[str, str] = {}
        self._starts: dict[str, datetime] = {}
        self._progress: dict[tuple[str, str], tuple[int, datetime]] = {}

    def of(self, event: Event) -> list[str]:
        """No lines for events that say nothing to a reader. Each line is printable and without escapes."""
        if event.kind == "accepted":
            self._workflows[event.execution] = event.data["request"]["workflow"]
        start = self._starts.setdefault(event.execution, event.time)
        text = self._text(event)
        if event.is_terminal:
            self._forget(event.execution)
        if text is None:
            return []
        elapsed = f"{(event.time - start).total_seconds():9.3f}s"
        return [one_line(f"{self._name(event)}{elapsed}  {text}")]

    def _text(self, event: Event) -> str | None:
        if event.kind == "step_progress" and not self._is_due(event):
            return None
        if event.step:
            text = _STEP_TEXTS.get(event.kind, _kind)(event)
            return None if text is None else f"{event.step:<{NAME_CHARACTERS}}  {text}"
        return _EXECUTION_TEXTS.get(event.kind, _kind)(event)

    def _name(self, event: Event) -> str:
        if not self._named:
            return ""
        return f"{event.execution} {self._workflows.get(event.execution, ''):<{NAME_CHARACTERS}} "

    def _is_due(self, event: Event) -> bool:
        key = (event.execution, event.step)
        tenth = int(event.data["fraction"] * 10)
        known = self._progress.get(key)
        if known and known[0] == tenth and (event.time - known[1]).total_seconds() < PROGRESS_PAUSE_S:
            return False
        self._progress[key] = (tenth, event.time)
        return True

    def _forget(self, execution: str) -> None:
        self._starts.pop(execution, None)
        self._progress = {key: seen for key, seen in self._progress.items() if key[0] != execution}


def _kind(event: Event) -> str:
    return event.kind.replace("_", " ")


def _started(event: Event) -> str:
    return "started" if event.attempt <= 1 else f"started, attempt {event.attempt}"


def _progressed(event: Event) -> str:
    return f"{event.data['fraction']:4.0%} {event.data['message']}".rstrip()


def _retrying(event: Event) -> str:
    error, due = event.data["error"], event.data["next_attempt_time"]
    wait = f"; next attempt in {max(0.0, (due - event.time).total_seconds()):.1f}s" if due else ""
    return f"attempt {event.attempt} failed: {error.type}: {error.message}{wait}"


def log_text(event: Event) -> str:
    """A step's log line, and how many before it were dropped."""
    dropped = event.data["dropped"]
    lost = f" ({dropped} lines before it were dropped)" if dropped else ""
    return f"{event.data['level']}: {event.data['message']}{lost}"


def _completed(event: Event) -> str:
    route = event.data["route"]
    return f"completed, route {route}" if route else "completed"


def _failed(event: Event) -> str:
    error = event.data["error"]
    return f"failed: {error.type}: {error.message}"


def _because(word: str) -> Callable[[Event], str]:
    return lambda event: f"{word}: {event.data['reason']}" if event.data["reason"] else word


_STEP_TEXTS: Mapping[str, Callable[[Event], str | None]] = {
    "step_scheduled": lambda event: None,
    "step_started": _started,
    "step_progress": _progressed,
    "step_log": log_text,
    "step_emitted": lambda event: f"emitted to {event.data['topic']}",
    "step_checkpointed": lambda event: "checkpoint",
    "step_retrying": _retrying,
    "step_completed": _completed,
    "step_failed": _failed,
    "step_skipped": _because("skipped"),
    "step_cancelled": _because("cancelled"),
    "step_reused": lambda event: f"reused from {event.data['execution']}",
}

_EXECUTION_TEXTS: Mapping[str, Callable[[Event], str | None]] = {
    "accepted": lambda event: f"accepted {event.data['request']['workflow']}, execution {event.execution}",
    "started": lambda event: None,
    "recovered": lambda event: "recovered: a server went on where the last one stopped",
    "cancelling": _because("cancelling"),
    "completed": lambda event: "completed",
    "failed": _failed,
    "cancelled": _because("cancelled"),
}
