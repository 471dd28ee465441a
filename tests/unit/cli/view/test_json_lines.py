"""Lines for programs."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from torana import BlobReference
from torana_server.cli.view import event_members, value_json
from unit.cli.events import EXECUTION, Script, error


def test_an_event_is_one_line_with_every_field() -> None:
    event = Script().add("step_progress", "load", message="two\nlines")
    line = value_json(event_members(event))
    assert "\n" not in line
    assert json.loads(line) == {
        "execution": EXECUTION,
        "sequence": 1,
        "time": "2026-01-15T12:00:00+00:00",
        "kind": "step_progress",
        "step": "load",
        "attempt": 1,
        "data": {"fraction": 0.5, "message": "two\nlines", "data": None},
    }


def test_an_error_is_an_object_with_its_cause() -> None:
    event = Script().add("step_failed", "load", error=error(cause=error("deep")), handled=False)
    told = json.loads(value_json(event_members(event)))["data"]["error"]
    assert (told["type"], told["cause"]["message"], told["cause"]["cause"]) == ("ZeroDivisionError", "deep", None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 15, tzinfo=UTC), '"2026-01-15T00:00:00+00:00"'),
        (date(2026, 1, 15), '"2026-01-15"'),
        (timedelta(minutes=1), "60.0"),
        (Decimal("1.10"), '"1.10"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (b"ab", '"YWI="'),
        ((1, 2), "[1, 2]"),
        ({2, 1}, "[1, 2]"),
        (2**70, "1180591620717411303424"),
        (BlobReference("ab", 3), '{"sha256": "ab", "size_bytes": 3}'),
    ],
)
def test_values_that_json_lacks_have_their_plain_form(value, text: str) -> None:
    assert value_json(value) == text


def test_what_no_client_returns_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        value_json(object())
