"""Durations and lines."""

from __future__ import annotations

import pytest

from torana_server.cli.view import one_line, seconds


@pytest.mark.parametrize(
    ("elapsed_s", "text"),
    [(0, "0.00s"), (9.994, "9.99s"), (9.996, "10.0s"), (59.94, "59.9s"), (59.96, "1m 00s"), (125, "2m 05s")],
)
def test_a_duration_is_short(elapsed_s: float, text: str) -> None:
    assert seconds(elapsed_s) == text


def test_hours_are_without_seconds() -> None:
    assert seconds(3_725) == "1h 02m"


def test_lines_are_joined_and_cut() -> None:
    assert one_line("a\nb\tc") == "a b c"
    assert len(one_line("x" * 10_000)) == 500
