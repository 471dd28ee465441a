"""Hints between servers, by LISTEN and NOTIFY. Any of them may be late, merged or lost: what hears them polls, too.

A notice is a line of words, percent-encoded where they came from callers: `e ID TENANT SEQUENCE POSITION` for events
that are durable up to a sequence, `c ID` for a command that waits for the owner, `r` for executions that were given up.
Several stand in one notification. They are sent after the commit and not within it: PostgreSQL lets transactions that
notify commit one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

CHANNEL: Final = "torana_journal"
PAYLOAD_BYTES_MAX: Final = 7_900
"""PostgreSQL takes less than 8,000."""


class Written(NamedTuple):
    execution: str
    tenant: str
    through_sequence: int
    position: int


class Asked(NamedTuple):
    execution: str


class Released(NamedTuple):
    """Somebody may claim something now."""


Notice = Written | Asked | Released


def payloads(replica: int, notices: Iterable[Notice]) -> Iterator[str]:
    """As few notifications as hold them all; the first line says who sends. One too long for any is left out."""
    head = str(replica)
    lines, size = [head], len(head)
    for notice in notices:
        line = _line(notice)
        if len(head) + 1 + len(line) > PAYLOAD_BYTES_MAX:
            continue
        if size + 1 + len(line) > PAYLOAD_BYTES_MAX:
            yield "\n".join(lines)
            lines, size = [head], len(head)
        lines.append(line)
        size += 1 + len(line)
    if len(lines) > 1:
        yield "\n".join(lines)


def parsed(payload: str) -> tuple[int, list[Notice]]:
    """The sender, and what it said. Lines of newer servers that this one does not know are left out."""
    head, *lines = payload.split("\n")
    notices: list[Notice] = []
    for line in lines:
        match line.split(" "):
            case ["e", execution, tenant, sequence, position]:
                notices.append(Written(unquote(execution), unquote(tenant), int(sequence), int(position)))
            case ["c", execution]:
                notices.append(Asked(unquote(execution)))
            case ["r"]:
                notices.append(Released())
    return int(head), notices


def _line(notice: Notice) -> str:
    """ASCII: as many bytes as characters."""
    match notice:
        case Asked():
            return f"c {quote(notice.execution, safe='')}"
        case Released():
            return "r"
        case Written():
            words = quote(notice.execution, safe=""), quote(notice.tenant, safe="")
            return f"e {' '.join(words)} {notice.through_sequence} {notice.position}"
