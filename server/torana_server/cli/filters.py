"""Options that choose executions, turned into the filter that a server takes. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from torana_server.cli import arguments
from torana_server.cli.exits import UsageError
from torana_server.workflow import parse_duration


class State(enum.StrEnum):
    """The states that a journal can be asked for."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


def execution_filter(
    *, workflow: str, state: State | None, labels: Iterable[str], since: str, until: str, raw: str, now: datetime
) -> str:
    """Every condition holds. Raises UsageError for a label or a time that cannot be read."""
    return " AND ".join(
        _terms(workflow, state, labels, _time(since, "--since", now), _time(until, "--until", now), raw)
    )


def _terms(
    workflow: str,
    state: State | None,
    labels: Iterable[str],
    since: datetime | None,
    until: datetime | None,
    raw: str,
) -> Iterator[str]:
    if workflow:
        yield f"workflow = {_quoted(workflow)}"
    if state:
        yield f"state = {state.name}"
    for name, value in arguments.labels(labels).items():
        yield f"labels.{_quoted(name)} = {_quoted(value)}"
    if since:
        yield f'create_time > "{since.isoformat()}"'
    if until:
        yield f'create_time < "{until.isoformat()}"'
    if raw:
        yield raw


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _time(text: str, option: str, now: datetime) -> datetime | None:
    """ "2h" is that long ago; a time without a zone is of this machine's."""
    if not text:
        return None
    try:
        return _moment(text, option, now)
    except OverflowError:
        raise UsageError(f"{option} {text} is further off than a calendar reaches") from None


def _moment(text: str, option: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return now - timedelta(seconds=_ago_s(text, option))
    return (at if at.tzinfo else at.astimezone()).astimezone(UTC)


def _ago_s(text: str, option: str) -> float:
    try:
        return float(parse_duration(text))
    except (ValueError, TypeError):
        wanted = "how long ago (30s, 15m, 2h, 7d) or a time (2026-01-15, 2026-01-15T12:00:00Z)"
        raise UsageError(f"{option} takes {wanted}, not {text!r}") from None
