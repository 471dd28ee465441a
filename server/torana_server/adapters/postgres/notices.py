"""Hints between servers, by LISTEN and NOTIFY. Any of them may be late, merged or lost: what hears them polls, too.

A notice names executions: `e ID SEQUENCE` for events that are durable up to a sequence, `c ID` for a command that waits
for the owner. Several stand in one notification, a line each. They are sent after the commit and not within it:
PostgreSQL lets transactions that notify commit one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

CHANNEL: Final = "torana_journal"
PAYLOAD_BYTES_MAX: Final = 7_900
"""PostgreSQL takes less than 8,000."""


class Written(NamedTuple):
    execution: str
    tenant: str
    through_sequence: int


class Asked(NamedTuple):
    execution: str


Notice = Written | Asked


def payloads(replica: int, notices: Iterable[Notice]) -> Iterator[str]:
    """As few notifications as hold them all; the first line says who sends."""
    head = str(replica)
    lines, size = [head], len(head)
    for notice in notices:
        line = _line(notice)
        if size + 1 + len(line.encode()) > PAYLOAD_BYTES_MAX:
            yield "\n".join(lines)
            lines, size = [head], len(head)
        lines.append(line)
        size += 1 + len(line.encode())
    if len(lines) > 1:
        yield "\n".join(lines)


def parsed(payload: str) -> tuple[int, list[Notice]]:
    """The sender, and what it said. Lines of newer servers that this one does not know are left out."""
    head, *lines = payload.split("\n")
    notices: list[Notice] = []
    for line in lines:
        match line.split(" "):
            case ["e", execution, tenant, sequence]:
                notices.append(Written(execution, tenant, int(sequence)))
            case ["c", execution]:
                notices.append(Asked(execution))
    return int(head), notices


def _line(notice: Notice) -> str:
    if isinstance(notice, Asked):
        return f"c {notice.execution}"
    return f"e {notice.execution} {notice.tenant} {notice.through_sequence}"
