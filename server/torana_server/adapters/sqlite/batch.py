"""What a group of writes does to the journal, decided without touching it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torana_server.adapters.journal_rules import check_append, not_owned
from torana_server.adapters.sqlite.queries import STATE_NUMBERS, Row, execution_row
from torana_server.execution.events import JOURNAL_FORMAT
from torana_server.execution.ports import TERMINAL_STATES, Commit, Created, StoredEvent, Summary, Transition

FIRST_FENCE = 1

Key = tuple[str, str, str]
"""Tenant, workflow, idempotency key."""


class Owned(NamedTuple):
    """What must be known about an execution of this server to judge an append."""

    key: int
    tenant: str
    fence: int
    sequence: int


@dataclass(slots=True)
class Rows:
    """Rows of INSERT_EXECUTIONS, MOVE_EXECUTIONS and INSERT_EVENTS. An execution moves at most once in here."""

    executions: list[Row] = field(default_factory=list)
    moves: dict[int, Row] = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)


class Counters(NamedTuple):
    """The last ones in use."""

    key: int
    position: int


class Batch:
    """One group commit in the making. Its changes to `owned` and `counters` count once the commit succeeded."""

    def __init__(
        self, owned: Mapping[str, Owned], known: Mapping[Key, Summary], counters: Counters, opening: int
    ) -> None:
        self._owned = owned
        self._known = dict(known)
        self._key = counters.key
        self._position = counters.position
        self._opening = opening
        self._rows = Rows()
        self.changes: dict[str, Owned | None] = {}
        """Executions that this server owns from now on, or no longer (None)."""
        self.commits: list[Commit] = []

    @property
    def counters(self) -> Counters:
        return Counters(self._key, self._position)

    def owned(self, execution: str) -> Owned | None:
        return self.changes[execution] if execution in self.changes else self._owned.get(execution)

    def known(self, summary: Summary) -> Summary | None:
        """The execution that has this idempotency key already, in the journal or earlier in this group."""
        return self._known.get(key_of(summary)) if summary.idempotency_key else None

    def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        """For a summary that is not `known`."""
        self._key += 1
        latest = len(events)
        created = summary if summary.latest_sequence == latest else replace(summary, latest_sequence=latest)
        if summary.idempotency_key:
            self._known[key_of(summary)] = created
        self._rows.executions.append(
            execution_row(
                self._key,
                summary,
                owner=self._opening,
                fence=FIRST_FENCE,
                latest=latest,
                journal_format=JOURNAL_FORMAT,
            )
        )
        self._write(summary.execution, Owned(self._key, summary.tenant, FIRST_FENCE, 0), events)
        return Created(created, created=True, fence=FIRST_FENCE)

    def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None,
    ) -> None:
        """Raises StaleAppendError, having changed nothing."""
        owned = self.owned(execution)
        if owned is None:
            raise not_owned(execution)
        check_append(
            execution, fence=fence, current_fence=owned.fence, expected=expected_sequence, latest=owned.sequence
        )
        self._write(execution, owned, events)
        if transition is not None:
            self._move(execution, owned.key, expected_sequence + len(events), transition)

    def drain(self) -> Rows:
        """The rows to write now; they are not returned again."""
        rows, self._rows = self._rows, Rows()
        return rows

    def _write(self, execution: str, owned: Owned, events: Sequence[StoredEvent]) -> None:
        position = self._position
        for event in events:
            position += 1
            self._rows.events.append((position, owned.key, event.sequence, int(event.kind), event.step, event.data))
        self._position = position
        latest = owned.sequence + len(events)
        self.changes[execution] = Owned(owned.key, owned.tenant, owned.fence, latest)
        self.commits.append(Commit(execution, owned.tenant, latest, position, tuple(events)))

    def _move(self, execution: str, key: int, latest: int, transition: Transition) -> None:
        start_time, end_time = transition.start_time, transition.end_time
        if before := self._rows.moves.get(key):
            start_time = before[3] if start_time is None else start_time
            end_time = before[4] if end_time is None else end_time
        self._rows.moves[key] = (key, STATE_NUMBERS[transition.state], latest, start_time, end_time)
        if transition.state in TERMINAL_STATES:
            self.changes[execution] = None


def key_of(summary: Summary) -> Key:
    return summary.tenant, summary.workflow, summary.idempotency_key
