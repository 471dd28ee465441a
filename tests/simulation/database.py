"""The simulated store that replicas share: what is in here is durable, in the order in which it came.

Ownership is PostgreSQL's: a replica has a row with a lease on the database's clock, each group of writes extends it,
whoever looks for work removes the rows whose lease ran out, and what names an owner without a row can be claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from simulation.history import Committed, Granted, History, Requested
from simulation.machines import Universe
from torana_server.adapters.journal_rules import check_append, not_owned, why_blocked
from torana_server.core.errors import ConflictError
from torana_server.execution.events import JOURNAL_FORMAT, EventKind
from torana_server.execution.filters import Filter, matches
from torana_server.execution.ports import (
    FIRST_FENCE,
    TERMINAL_STATES,
    CancelRequest,
    Capabilities,
    Claim,
    Commit,
    Created,
    PositionedEvent,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
)

LEASE_S: Final = 6.0
NOBODY: Final = 0


@dataclass(slots=True)
class Row:
    summary: Summary
    owner: int
    fence: int = FIRST_FENCE
    events: list[StoredEvent] = field(default_factory=list)
    commands: list[CancelRequest] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.summary.state in TERMINAL_STATES


class GoneError(Exception):
    """The replica's row is not there any more: its lease ran out and somebody removed it."""


class Subscriber(Protocol):
    """A replica that hears of what others did, if the network lets it."""

    replica: int

    def hint_committed(self, commit: Commit) -> None: ...
    def hint_requested(self, execution: str) -> None: ...
    def hint_claimable(self) -> None: ...


class Database:
    """Every method is atomic, and what it wrote is durable when it returns."""

    def __init__(self, universe: Universe, history: History) -> None:
        self._universe = universe
        self._history = history
        self.rows: dict[str, Row] = {}
        self.subscribers: list[Subscriber] = []
        self.bereaved: Callable[[int], None] = lambda replica: None
        """Told of each replica that something is taken from."""
        self._keys: dict[tuple[str, str, str], str] = {}
        self._leases: dict[int, float] = {}
        self._log: list[PositionedEvent] = []
        self._definitions: dict[str, StoredDefinition] = {}
        self._replicas = 0

    # --- replicas -----------------------------------------------------------------------------------------------

    def join(self) -> int:
        self._replicas += 1
        self._leases[self._replicas] = self._universe.now_s + LEASE_S
        return self._replicas

    def extend(self, replica: int) -> None:
        """Raises GoneError."""
        if replica not in self._leases:
            raise GoneError
        self._leases[replica] = self._universe.now_s + LEASE_S

    def leave(self, replica: int) -> None:
        self._leases.pop(replica, None)
        self._tell_claimable(replica)

    def _bury(self) -> None:
        for replica in [one for one, until_s in self._leases.items() if until_s <= self._universe.now_s]:
            del self._leases[replica]

    def has_lapsed(self) -> bool:
        """Whether some replica's lease ran out."""
        return any(until_s <= self._universe.now_s for until_s in self._leases.values())

    # --- writing ------------------------------------------------------------------------------------------------

    def create(self, replica: int, summary: Summary, events: Sequence[StoredEvent]) -> tuple[Created, Commit | None]:
        key = (summary.tenant, summary.workflow, summary.idempotency_key)
        if summary.idempotency_key and key in self._keys:
            return Created(self.rows[self._keys[key]].summary, created=False, fence=0), None
        if summary.execution in self.rows:
            raise ConflictError(f"execution {summary.execution} exists already")
        row = self.rows[summary.execution] = Row(replace(summary, latest_sequence=0), replica)
        if summary.idempotency_key:
            self._keys[key] = summary.execution
        self._history.add(Granted(self._universe.now_s, replica, summary.execution, FIRST_FENCE))
        commit = self._write(replica, row, events, FIRST_FENCE)
        return Created(row.summary, created=True, fence=FIRST_FENCE), commit

    def append(
        self,
        replica: int,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None,
    ) -> Commit:
        """Raises StaleAppendError."""
        row = self.rows.get(execution)
        if row is None or row.ended:
            raise not_owned(execution)
        self._check(row, replica, expected_sequence, fence)
        if transition is not None:
            before = row.summary
            row.summary = replace(
                before,
                state=transition.state,
                start_time=before.start_time if transition.start_time is None else transition.start_time,
                end_time=before.end_time if transition.end_time is None else transition.end_time,
            )
        return self._write(replica, row, events, fence)

    def _check(self, row: Row, replica: int, expected_sequence: int, fence: int) -> None:
        execution, latest = row.summary.execution, row.summary.latest_sequence
        if row.owner != replica:
            raise not_owned(execution)
        check_append(execution, fence=fence, current_fence=row.fence, expected=expected_sequence, latest=latest)

    def _write(self, replica: int, row: Row, events: Sequence[StoredEvent], fence: int) -> Commit:
        execution = row.summary.execution
        if not events:
            return Commit(execution, row.summary.tenant, len(row.events), len(self._log))
        row.events.extend(events)
        row.summary = replace(row.summary, latest_sequence=len(row.events))
        first = len(self._log) + 1
        self._log += [PositionedEvent(first + index, execution, event) for index, event in enumerate(events)]
        self._history.add(Committed(self._universe.now_s, replica, execution, tuple(events), fence, row.fence))
        commit = Commit(execution, row.summary.tenant, len(row.events), len(self._log), tuple(events))
        for subscriber in self.subscribers:
            if subscriber.replica != replica:
                subscriber.hint_committed(commit._replace(position=0, events=()))
        return commit

    def request(self, execution: str, command: CancelRequest) -> None:
        row = self.rows.get(execution)
        if row is None or row.ended:
            return
        if not row.commands:
            row.commands.append(command)
            self._history.add(Requested(self._universe.now_s, execution))
        for subscriber in self.subscribers:
            subscriber.hint_requested(execution)

    def put_definition(self, definition: StoredDefinition) -> None:
        self._definitions.setdefault(definition.revision, definition)

    # --- ownership ----------------------------------------------------------------------------------------------

    def claim(self, replica: int, limit: int, capabilities: Capabilities) -> list[Claim]:
        if replica not in self._leases:
            return []
        self.extend(replica)
        self._bury()
        claims: list[Claim] = []
        for execution in sorted(self._unowned()):
            row = self.rows[execution]
            if len(claims) < limit and not self._why_blocked(row, capabilities):
                self.bereaved(row.owner)
                row.owner, row.fence = replica, row.fence + 1
                self._history.add(Granted(self._universe.now_s, replica, execution, row.fence))
                claims.append(Claim(row.summary, row.fence))
        return claims

    def release(self, replica: int, execution: str, fence: int) -> None:
        row = self.rows[execution]
        if row.owner == replica and row.fence == fence:
            row.owner = NOBODY
            self._tell_claimable(replica)

    def release_all_but(self, replica: int, known: Container[str]) -> bool:
        """What this owner does not know of: nobody would ever drive it."""
        forgotten = [e for e, row in self.rows.items() if row.owner == replica and not row.ended and e not in known]
        for execution in forgotten:
            self.release(replica, execution, self.rows[execution].fence)
        return bool(forgotten)

    def _tell_claimable(self, by: int) -> None:
        for subscriber in self.subscribers:
            if subscriber.replica != by:
                subscriber.hint_claimable()

    def disown_all(self) -> None:
        """The one process that has the store for itself has ended."""
        self._leases.clear()

    def blocked(self, tenant: str, capabilities: Capabilities) -> Mapping[str, str]:
        mine = [self.rows[execution] for execution in self._unowned() if self.rows[execution].summary.tenant == tenant]
        reasons = {row.summary.execution: self._why_blocked(row, capabilities) for row in mine}
        return {execution: reason for execution, reason in reasons.items() if reason}

    def _unowned(self) -> Iterator[str]:
        return (e for e, row in self.rows.items() if not row.ended and row.owner not in self._leases)

    def _why_blocked(self, row: Row, capabilities: Capabilities) -> str:
        revision = row.summary.revision
        return why_blocked(revision, JOURNAL_FORMAT, self._definitions.get(revision), capabilities)

    # --- reading ------------------------------------------------------------------------------------------------

    def holds(self, execution: str, event: StoredEvent) -> bool:
        row = self.rows.get(execution)
        return row is not None and row.events[event.sequence - 1 : event.sequence] == [event]

    def drives(self, replica: int) -> bool:
        """Whether it owns something unfinished."""
        return any(row.owner == replica and not row.ended for row in self.rows.values())

    def commanded(self, replica: int) -> list[str]:
        """Executions of this owner that a command waits for."""
        return [e for e, row in self.rows.items() if row.commands and not row.ended and row.owner == replica]

    def get(self, execution: str) -> Summary | None:
        row = self.rows.get(execution)
        return row.summary if row else None

    def find(self, tenant: str, workflow: str, key: str) -> Summary | None:
        execution = self._keys.get((tenant, workflow, key))
        return self.get(execution) if execution else None

    def summaries(self, wanted: Callable[[Summary], bool]) -> list[Summary]:
        return [row.summary for _, row in sorted(self.rows.items(), reverse=True) if wanted(row.summary)]

    def requests(self, execution: str) -> list[CancelRequest]:
        row = self.rows.get(execution)
        return [] if row is None or row.ended else list(row.commands)

    def definition(self, revision: str) -> StoredDefinition | None:
        return self._definitions.get(revision)

    def position(self) -> int:
        return len(self._log)

    def log(self, tenant: str, after: int, where: Filter, kinds: frozenset[EventKind]) -> list[PositionedEvent]:
        return [
            entry
            for entry in self._log[after:]
            if (summary := self.rows[entry.execution].summary).tenant == tenant
            and (not kinds or entry.event.kind in kinds)
            and matches(where, summary)
        ]
