"""Things of one kind, a row each: a table for people, tabs between whole values for a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.table import Column, Table
from rich.text import Text

from torana_server.cli.view.text import ago, milliseconds, one_line

STATE_STYLES = {
    "completed": "green",
    "healthy": "green",
    "current": "green",
    "reused": "cyan",
    "running": "cyan",
    "cancelling": "yellow",
    "cancelled": "yellow",
    "waiting": "yellow",
    "retrying": "yellow",
    "degraded": "yellow",
    "draining": "yellow",
    "failed": "red",
    "unhealthy": "red",
    "blocked": "red",
    "expired": "red",
    "queued": "dim",
    "idle": "dim",
    "pending": "dim",
    "scheduled": "dim",
    "skipped": "dim",
    "superseded": "dim",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """`exact` goes to a pipe and `shown` to people. Both are printable and on one line."""

    exact: str
    shown: Text


@dataclass(frozen=True, slots=True)
class Head:
    """`gives_way`: the column is cut when the terminal is too narrow; all others are always whole."""

    name: str
    gives_way: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """`empty` is what people are told when there are no rows."""

    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]] = field(default_factory=tuple)
    empty: str = ""


def listing_table(listing: Listing) -> Table:
    """Without the columns that are empty in every row."""
    places = [place for place in range(len(listing.heads)) if any(row[place].exact for row in listing.rows)]
    heads = [listing.heads[place] for place in places]
    columns = [
        Column(head.name.upper(), no_wrap=not head.gives_way, justify="right" if head.right else "left")
        for head in heads
    ]
    table = Table(*columns, box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for row in listing.rows:
        table.add_row(*(row[place].shown for place in places))
    return table


def tabbed_lines(listing: Listing) -> list[str]:
    """A line a row, without heads."""
    return ["\t".join(cell.exact for cell in row) for row in listing.rows]


def text_cell(value: object, style: str = "") -> Cell:
    text = one_line(str(value))
    return Cell(text, Text(text, style, no_wrap=True, overflow="ellipsis"))


def state_cell(state: str) -> Cell:
    return text_cell(state, STATE_STYLES.get(state, ""))


def names_cell(names: Iterable[str]) -> Cell:
    return text_cell(", ".join(names))


def time_cell(time: datetime | None, now: datetime) -> Cell:
    """How long ago, or RFC 3339 for a pipe."""
    if time is None:
        return text_cell("")
    return Cell(time.isoformat(timespec="milliseconds"), Text(ago(now - time)))


def latency_cell(latency: timedelta | None) -> Cell:
    """Milliseconds, or seconds as a number for a pipe."""
    if latency is None:
        return text_cell("")
    return Cell(f"{latency.total_seconds():.6f}", Text(milliseconds(latency)))
