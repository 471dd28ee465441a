"""What a group of writes does to the journal, decided without touching it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from torana_server.adapters.journal_rules import check_append, not_owned
from torana_server.adapters.postgres.queries import STATE_NUMBERS, labels
from torana_server.adapters.postgres.texts import escaped
from torana_server.execution.events import JOURNAL_FORMAT
from torana_server.execution.ports import (
    FIRST_FENCE,
    TERMINAL_STATES,
    Commit,
    ExecutionState,
    StoredEvent,
    Summary,
    Transition,
)

CREATED_COLUMNS: Final = 17
EVENT_COLUMNS: Final = 5
MOVE_COLUMNS: Final = 5


class Owned(NamedTuple):
    """What must be known about an execution of this server to judge an append."""

    key: int
    tenant: str
    fence: int
    sequence: int


class Added(NamedTuple):
    """The events that one write adds. `key` stands for the execution."""

    key: int
    execution: str
    tenant: str
    through_sequence: int
    events: tuple[StoredEvent, ...]


@dataclass(slots=True)
class Group:
    """One statement in the making: rows for WRITE_GROUP. Its `changes` count once the statement was committed."""

    owned: Mapping[str, Owned]
    changes: dict[str, Owned | None] = field(default_factory=dict)
    """Executions that this server owns from now on, or no longer (None)."""
    created: dict[int, Summary] = field(default_factory=dict)
    added: list[Added] = field(default_factory=list)
    ended: dict[ExecutionState, int] = field(default_factory=lambda: dict.fromkeys(TERMINAL_STATES, 0))
    _moves: dict[int, tuple[int, int, int | None, int | None]] = field(default_factory=dict)

    def has_new(self, execution: str) -> bool:
        """Whether the execution is created in here: what comes after must wait for the next group."""
        return any(summary.execution == execution for summary in self.created.values())

    def create(self, key: int, summary: Summary, events: Sequence[StoredEvent]) -> None:
        self.created[key] = replace(summary, latest_sequence=len(events))
        self.changes[summary.execution] = Owned(key, summary.tenant, FIRST_FENCE, len(events))
        self.added.append(Added(key, summary.execution, summary.tenant, len(events), tuple(events)))

    def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None,
    ) -> None:
        """Raises StaleAppendError, having changed nothing."""
        owned = self.changes[execution] if execution in self.changes else self.owned.get(execution)
        if owned is None:
            raise not_owned(execution)
        check_append(
            execution, fence=fence, current_fence=owned.fence, expected=expected_sequence, latest=owned.sequence
        )
        latest = expected_sequence + len(events)
        self.changes[execution] = owned._replace(sequence=latest)
        self.added.append(Added(owned.key, execution, owned.tenant, latest, tuple(events)))
        if transition is not None:
            self._move(execution, owned.key, latest, transition)

    def _move(self, execution: str, key: int, latest: int, transition: Transition) -> None:
        _, _, start_time, end_time = self._moves.get(key, (0, 0, None, None))
        self._moves[key] = (
            STATE_NUMBERS[transition.state],
            latest,
            start_time if transition.start_time is None else transition.start_time,
            end_time if transition.end_time is None else transition.end_time,
        )
        if transition.state in TERMINAL_STATES:
            self.changes[execution] = None
            self.ended[transition.state] += 1

    def arguments(self) -> list[Any]:
        """Everything of WRITE_GROUP from $4 on."""
        ended = [
            self.ended[state] for state in (ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED)
        ]
        created = _columns(CREATED_COLUMNS, [_created_row(key, summary) for key, summary in self.created.items()])
        moves = _columns(MOVE_COLUMNS, [(key, *move) for key, move in self._moves.items()])
        return [*ended, *created, *_columns(EVENT_COLUMNS, self._event_rows()), *moves]

    def _event_rows(self) -> list[tuple[Any, ...]]:
        return [
            (added.key, event.sequence, int(event.kind), escaped(event.step), event.data)
            for added in self.added
            for event in added.events
        ]

    def commits(self, position: int, refused: frozenset[int]) -> list[Commit]:
        """What became durable at the position that WRITE_GROUP returned, but for the `refused` new executions."""
        commits = []
        for added in self.added:
            position += len(added.events)
            if added.key not in refused:
                commits.append(Commit(added.execution, added.tenant, added.through_sequence, position, added.events))
        return commits


def _columns(width: int, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _created_row(key: int, summary: Summary) -> tuple[Any, ...]:
    return (
        key,
        escaped(summary.execution),
        escaped(summary.tenant),
        escaped(summary.workflow),
        escaped(summary.revision),
        STATE_NUMBERS[summary.state],
        summary.latest_sequence,
        summary.oldest_sequence,
        summary.create_time,
        summary.start_time,
        summary.end_time,
        JOURNAL_FORMAT,
        escaped(summary.session_id),
        escaped(summary.idempotency_key),
        summary.request_hash,
        escaped(summary.retry_of),
        labels(summary.labels),
    )
