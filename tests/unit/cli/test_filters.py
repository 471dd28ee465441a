"""Options become the filter that a server takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from torana_server.cli.exits import UsageError
from torana_server.cli.filters import State, execution_filter

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def of(**options: Any) -> str:
    nothing: dict[str, Any] = {"workflow": "", "state": None, "labels": (), "since": "", "until": "", "raw": ""}
    return execution_filter(**{**nothing, **options}, now=NOW)


def test_nothing_asked_is_no_filter() -> None:
    assert of() == ""


def test_every_condition_is_joined_by_and() -> None:
    text = of(workflow="etl", state=State.FAILED, labels=["team=a"], raw='session_id = "s"')
    assert text == 'workflow = "etl" AND state = FAILED AND labels."team" = "a" AND session_id = "s"'


def test_a_value_cannot_end_its_quotes() -> None:
    assert of(labels=['k=a" OR "\\']) == 'labels."k" = "a\\" OR \\"\\\\"'


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-14T10:00:00+01:00", datetime(2026, 1, 14, 9, 0, tzinfo=UTC)),
        ("2026-01-14T10:00:00Z", datetime(2026, 1, 14, 10, 0, tzinfo=UTC)),
    ],
)
def test_a_time_is_how_long_ago_or_when(text: str, at: datetime) -> None:
    assert of(since=text) == f'create_time > "{at.isoformat()}"'
    assert of(until=text) == f'create_time < "{at.isoformat()}"'


@pytest.mark.parametrize("text", ["yesterday", "5x", "-1h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--since takes how long ago"):
        of(since=text)


@pytest.mark.parametrize("text", ["9999999d", "99999999999999999999d", "0001-01-01T00:00:00+14:00"])
def test_a_time_before_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="further off than a calendar reaches"):
        of(since=text)
