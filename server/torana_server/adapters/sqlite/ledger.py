"""One group of writes as one transaction. Lives on the writer's thread."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw

from torana_server.adapters.journal_rules import RETRY_AFTER_S, why_blocked
from torana_server.adapters.sqlite import queries
from torana_server.adapters.sqlite.batch import Batch, Counters, Key, Owned, key_of
from torana_server.adapters.sqlite.writes import (
    Append,
    Create,
    Outcome,
    PutDefinition,
    Release,
    Request,
    TakeOver,
    Write,
)
from torana_server.core.errors import StaleAppendError, UnavailableError
from torana_server.execution.ports import Capabilities, Claim, Commit, Created, Summary


@dataclass(slots=True)
class Committed:
    """What a durable group means for those who wait and watch."""

    outcomes: list[Outcome] = field(default_factory=list)
    commits: Sequence[Commit] = ()
    wakes: list[str] = field(default_factory=list)


class Ledger:
    """The state that only the writer changes, beside the connection that only it writes to.

    Being the only writer, it keeps what it needs to judge an append in memory, for the executions in flight.
    """

    def __init__(self, connection: apsw.Connection, enough_room: Callable[[], bool]) -> None:
        self._connection = connection
        self._enough_room = enough_room
        self._owned: dict[str, Owned] = {}
        self.opening = int(connection.execute(queries.NEXT_OPENING).get)
        self._counters = Counters(
            key=connection.execute(queries.LAST_KEY).get, position=connection.execute(queries.POSITION).get
        )

    @property
    def executions_owned(self) -> int:
        return len(self._owned)

    def commit(self, group: Sequence[Write]) -> Committed:
        """Durable on return. Whatever it raises, nothing of the group was kept."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            batch = Batch(self._owned, self._known(group), self._counters, self.opening)
            committed = self._write(group, batch)
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors, such as a full disk.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._keep(batch)
        return committed

    def _keep(self, batch: Batch) -> None:
        self._counters = batch.counters
        for execution, owned in batch.changes.items():
            if owned is None:
                self._owned.pop(execution, None)
            else:
                self._owned[execution] = owned

    def _known(self, group: Iterable[Write]) -> dict[Key, Summary]:
        creates = (write.summary for write in group if isinstance(write, Create))
        keys = list({key_of(summary): None for summary in creates if summary.idempotency_key})
        found = map(queries.summary, self._rows(queries.FIND_KEYS, keys))
        return {key_of(summary): summary for summary in found}

    def _write(self, group: Iterable[Write], batch: Batch) -> Committed:
        committed = Committed(commits=batch.commits)
        for write in group:
            try:
                value = self._one(write, batch, committed)
            except (StaleAppendError, UnavailableError) as refused:
                committed.outcomes.append(Outcome(write.done, error=refused))
            else:
                committed.outcomes.append(Outcome(write.done, value))
        self._flush(batch)
        return committed

    def _one(self, write: Write, batch: Batch, committed: Committed) -> object:
        match write:
            case Append():
                batch.append(write.execution, write.expected_sequence, write.events, write.fence, write.transition)
            case Create():
                return self._create(write, batch)
            case Request():
                self._flush(batch)
                self._request(write, batch, committed)
            case TakeOver():
                self._flush(batch)
                return self._take_over(write, batch)
            case Release():
                self._release(write, batch)
            case PutDefinition():
                self._connection.execute(queries.INSERT_DEFINITION, queries.definition_row(write.definition))
        return None

    def _create(self, write: Create, batch: Batch) -> Created:
        if known := batch.known(write.summary):
            return Created(known, created=False, fence=0)
        if not self._enough_room():
            raise UnavailableError(
                "the journal's disk is nearly full: what runs may finish, nothing new starts; free some space",
                retry_after_s=RETRY_AFTER_S,
            )
        return batch.create(write.summary, write.events)

    def _flush(self, batch: Batch) -> None:
        rows = batch.drain()
        self._rows(queries.INSERT_EXECUTIONS, rows.executions)
        self._rows(queries.INSERT_EVENTS, rows.events)
        self._rows(queries.MOVE_EXECUTIONS, list(rows.moves.values()))

    def _rows(self, statement: str, rows: Sequence[queries.Row]) -> list[Any]:
        calls = queries.padded(statement, rows)
        return [row for sql, bindings in calls for row in self._connection.execute(sql, bindings)]

    def _request(self, write: Request, batch: Batch, committed: Committed) -> None:
        command = write.command
        self._connection.execute(queries.INSERT_COMMAND, (write.execution, command.reason, command.subject))
        if batch.owned(write.execution) is not None:
            committed.wakes.append(write.execution)

    def _release(self, write: Release, batch: Batch) -> None:
        owned = batch.owned(write.execution)
        if owned is not None and owned.fence == write.fence:
            self._connection.execute(queries.RELEASE, (owned.key,))
            batch.changes[write.execution] = None

    def _take_over(self, write: TakeOver, batch: Batch) -> list[Claim]:
        capabilities = write.capabilities
        blocked = json.dumps(self._blocked_revisions(capabilities))
        bindings = (self.opening, capabilities.journal_format, blocked, write.limit)
        taken = list(self._connection.execute(queries.CLAIMABLE, bindings))
        if taken:
            self._connection.execute(queries.TAKE, (self.opening, json.dumps([row[0] for row in taken])))
        return [self._claimed(row, batch) for row in taken]

    def _claimed(self, row: queries.Row, batch: Batch) -> Claim:
        key, fence, *columns = row
        summary = queries.summary(tuple(columns))
        batch.changes[summary.execution] = Owned(key, summary.tenant, fence, summary.latest_sequence)
        return Claim(summary, fence)

    def _blocked_revisions(self, capabilities: Capabilities) -> list[str]:
        waiting = {row[0] for row in self._connection.execute(queries.UNOWNED_REVISIONS, (self.opening,))}
        stored = map(queries.definition, self._connection.execute(queries.DEFINITIONS, (json.dumps(sorted(waiting)),)))
        definitions = {definition.revision: definition for definition in stored}
        reason = functools.partial(why_blocked, capabilities=capabilities)
        return [revision for revision in waiting if reason(revision, 0, definitions.get(revision))]
