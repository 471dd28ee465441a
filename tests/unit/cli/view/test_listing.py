"""Rows for people and for pipes."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from torana_server.cli.view import (
    Head,
    Listing,
    ago,
    latency_cell,
    listing_table,
    milliseconds,
    state_cell,
    tabbed_lines,
    text_cell,
    time_cell,
)

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
LONG = "a-name-that-is-longer-than-any-terminal-" * 4


def listing(name: str) -> Listing:
    identity = text_cell("019bbf52-7cd0-7191-b1f0-cfa7603d3135")
    row = (identity, text_cell(name), state_cell("failed"), time_cell(NOW - timedelta(minutes=12), NOW))
    return Listing((Head("id"), Head("workflow", gives_way=True), Head("state"), Head("age", right=True)), [row])


def drawn(name: str, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(listing_table(listing(name)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_only_what_may_gives_way_on_a_terminal(width: int) -> None:
    lines = drawn(LONG, width)
    assert max(map(len, lines)) <= width
    assert lines[1].startswith("019bbf52-7cd0-7191-b1f0-cfa7603d3135  a-name")
    assert lines[1].split()[-2:] == ["failed", "12m"]


def test_heads_stand_above_their_columns() -> None:
    head, row = drawn("etl", 80)
    assert head.index("WORKFLOW") == row.index("etl")
    assert head.index("STATE") == row.index("failed")


def test_a_pipe_gets_whole_values_between_tabs_and_times_as_times() -> None:
    (line,) = tabbed_lines(listing(LONG))
    assert line.split("\t") == [
        "019bbf52-7cd0-7191-b1f0-cfa7603d3135",
        LONG,
        "failed",
        "2026-01-15T11:48:00.000+00:00",
    ]


def test_a_value_cannot_forge_a_column_or_a_line() -> None:
    assert tabbed_lines(Listing((Head("a"),), [(text_cell("x\ty\nz\x1b[2J"),)])) == ["x   y z\\x1b[2J"]


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [
        (timedelta(seconds=-5), "0s"),
        (timedelta(seconds=59.9), "59s"),
        (timedelta(minutes=59), "59m"),
        (timedelta(hours=23.9), "23h"),
        (timedelta(days=400), "400d"),
    ],
)
def test_an_age_is_whole_units(elapsed: timedelta, text: str) -> None:
    assert ago(elapsed) == text


@pytest.mark.parametrize(("elapsed_s", "text"), [(0.00042, "0.42 ms"), (0.0125, "12 ms"), (1.5, "1.50s")])
def test_a_latency_is_short(elapsed_s: float, text: str) -> None:
    assert milliseconds(timedelta(seconds=elapsed_s)) == text


def test_a_latency_that_was_never_measured_is_empty() -> None:
    assert latency_cell(None).exact == ""
