"""What every journal decides alike. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from torana_server.core.errors import StaleAppendError, UnavailableError
from torana_server.execution.ports import Capabilities, PositionedEvent, StoredDefinition, StoredEvent

RETRY_AFTER_S = 1.0


Item = TypeVar("Item")


def check_gapless(after_sequence: int, events: Sequence[StoredEvent]) -> None:
    """Raises ValueError unless `events` are numbered one by one from after `after_sequence`."""
    for expected, event in enumerate(events, after_sequence + 1):
        if event.sequence != expected:
            raise ValueError(f"expected an event with sequence {expected}, got {event.sequence}")


def not_owned(execution: str) -> StaleAppendError:
    return StaleAppendError(f"execution {execution} has ended, or is not owned by this server")


def check_append(execution: str, *, fence: int, current_fence: int, expected: int, latest: int) -> None:
    """Raises StaleAppendError unless fence and sequence are the current ones."""
    if fence != current_fence:
        raise StaleAppendError(f"execution {execution} has fence {current_fence}, the append had {fence}")
    if expected != latest:
        raise StaleAppendError(f"execution {execution} is at sequence {latest}, the append expected {expected}")


def why_blocked(
    revision: str, journal_format: int, definition: StoredDefinition | None, capabilities: Capabilities
) -> str:
    """Why a server with these capabilities cannot run an execution; "" if it can."""
    if journal_format > capabilities.journal_format:
        return f"its journal has format {journal_format}; this server reads up to {capabilities.journal_format}"
    if definition is None:
        return f"definition {revision} is not stored"
    missing = definition.requires - capabilities.offers
    return f"no server offers {', '.join(sorted(missing))}" if missing else ""


def within_bytes(items: Iterable[Item], limit_bytes: int, size: Callable[[Item], int]) -> tuple[list[Item], bool]:
    """The longest prefix of at most `limit_bytes`, but at least one item, and whether that was all.

    Takes no more than one item too many from `items`.
    """
    taken: list[Item] = []
    total = 0
    for item in items:
        total += size(item)
        if taken and total > limit_bytes:
            return taken, False
        taken.append(item)
    return taken, True


def event_bytes(event: StoredEvent) -> int:
    return len(event.data)


def positioned_bytes(positioned: PositionedEvent) -> int:
    return len(positioned.event.data)


def reached(events: Sequence[PositionedEvent], *, through: int, limit: int, complete: bool) -> int:
    """How far a scan up to `through` came that stops at `limit` events, or earlier when not `complete`."""
    return through if complete and len(events) < limit else events[-1].position


def closed() -> UnavailableError:
    return UnavailableError("the journal is not open; start the server again")
