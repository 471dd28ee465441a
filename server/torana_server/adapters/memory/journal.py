"""A journal in memory: for unit tests, and for servers that were told not to keep anything."""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torana_server.adapters.journal_rules import (
    check_append,
    check_gapless,
    closed,
    event_bytes,
    not_owned,
    positioned_bytes,
    reached,
    why_blocked,
    within_bytes,
)
from torana_server.core.errors import ConflictError
from torana_server.execution.events import JOURNAL_FORMAT, EventKind
from torana_server.execution.filters import Filter, Operator, matches
from torana_server.execution.ports import (
    TERMINAL_STATES,
    CancelRequest,
    Capabilities,
    Claim,
    Commit,
    Created,
    ExecutionState,
    JournalListener,
    PositionedEvent,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
)


@dataclass(slots=True)
class _Record:
    summary: Summary
    fence: int = 1
    events: list[StoredEvent] = field(default_factory=list)
    commands: list[CancelRequest] = field(default_factory=list)


class MemoryJournal:
    """The Journal contract without the disk. Everything runs on the event loop, so every method is atomic."""

    kind = "memory"
    durable = False

    def __init__(self) -> None:
        self._listener: JournalListener | None = None
        self._records: dict[str, _Record] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._sorted: defaultdict[tuple[str, str | None], list[str]] = defaultdict(list)
        """Ids that rise: those of a tenant by (tenant, None), the retries of an execution by (tenant, execution)."""
        self._log: list[PositionedEvent] = []
        self._owned: set[str] = set()
        self._unowned: set[str] = set()
        self._definitions: dict[str, StoredDefinition] = {}

    async def open(self, listener: JournalListener) -> None:
        self._listener = listener

    async def close(self) -> None:
        self._listener = None

    async def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        self._opened()
        check_gapless(0, events)
        key = (summary.tenant, summary.workflow, summary.idempotency_key)
        if key in self._keys:
            return Created(self._records[self._keys[key]].summary, created=False, fence=0)
        if summary.execution in self._records:
            raise ConflictError(f"execution {summary.execution} exists already")
        record = _Record(replace(summary, latest_sequence=0))
        self._records[summary.execution] = record
        self._owned.add(summary.execution)
        insort(self._sorted[summary.tenant, None], summary.execution)
        if summary.retry_of:
            insort(self._sorted[summary.tenant, summary.retry_of], summary.execution)
        if summary.idempotency_key:
            self._keys[key] = summary.execution
        self._write(record, events)
        return Created(record.summary, created=True, fence=record.fence)

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        self._opened()
        check_gapless(expected_sequence, events)
        record = self._owned_record(execution)
        latest = record.summary.latest_sequence
        check_append(execution, fence=fence, current_fence=record.fence, expected=expected_sequence, latest=latest)
        if transition is not None:
            self._move(record, transition)
        self._write(record, events)

    def _move(self, record: _Record, transition: Transition) -> None:
        before = record.summary
        record.summary = replace(
            before,
            state=transition.state,
            start_time=before.start_time if transition.start_time is None else transition.start_time,
            end_time=before.end_time if transition.end_time is None else transition.end_time,
        )
        if transition.state in TERMINAL_STATES:
            self._owned.discard(before.execution)

    def _write(self, record: _Record, events: Sequence[StoredEvent]) -> None:
        execution = record.summary.execution
        record.events.extend(events)
        record.summary = replace(record.summary, latest_sequence=len(record.events))
        position = itertools.count(len(self._log) + 1)
        self._log.extend(PositionedEvent(next(position), execution, event) for event in events)
        commit = Commit(execution, record.summary.tenant, len(record.events), len(self._log), tuple(events))
        self._opened().committed([commit])

    async def read(self, execution: str, after_sequence: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        self._opened()
        record = self._records.get(execution)
        events = record.events[after_sequence : after_sequence + limit] if record else []
        return within_bytes(events, limit_bytes, event_bytes)[0]

    async def read_all(
        self,
        tenant: str,
        after_position: int,
        where: Filter,
        kinds: frozenset[EventKind],
        *,
        limit: int,
        limit_bytes: int,
    ) -> tuple[list[PositionedEvent], int]:
        self._opened()
        found = itertools.islice(self._matching(tenant, after_position, where, kinds), limit)
        events, complete = within_bytes(found, limit_bytes, positioned_bytes)
        through = max(after_position, len(self._log))
        return events, reached(events, through=through, limit=limit, complete=complete)

    def _matching(
        self, tenant: str, after_position: int, where: Filter, kinds: frozenset[EventKind]
    ) -> Iterator[PositionedEvent]:
        for entry in itertools.islice(self._log, after_position, None):
            summary = self._records[entry.execution].summary
            if summary.tenant == tenant and (not kinds or entry.event.kind in kinds) and matches(where, summary):
                yield entry

    async def position(self) -> int:
        self._opened()
        return len(self._log)

    async def get(self, execution: str) -> Summary | None:
        self._opened()
        record = self._records.get(execution)
        return record.summary if record else None

    async def summaries(self, tenant: str, where: Filter, *, limit: int, before: str | None) -> list[Summary]:
        self._opened()
        ids = self._sorted.get((tenant, _retried(where)), [])
        end = len(ids) if before is None else bisect_left(ids, before)
        newest = (self._records[ids[index]].summary for index in reversed(range(end)))
        return list(itertools.islice((summary for summary in newest if matches(where, summary)), limit))

    async def find(self, tenant: str, workflow: str, idempotency_key: str) -> Summary | None:
        execution = self._keys.get((tenant, workflow, idempotency_key))
        return await self.get(execution) if execution else None

    async def request(self, execution: str, command: CancelRequest) -> None:
        listener = self._opened()
        record = self._records.get(execution)
        if record is None or record.summary.state in TERMINAL_STATES:
            return
        if not record.commands:
            record.commands.append(command)
        if execution in self._owned:
            listener.requested(execution)

    async def requests(self, execution: str) -> list[CancelRequest]:
        self._opened()
        record = self._records.get(execution)
        settled = record is None or record.summary.state in TERMINAL_STATES
        return [] if record is None or settled else list(record.commands)

    async def claim(self, limit: int, capabilities: Capabilities) -> list[Claim]:
        self._opened()
        oldest = sorted(self._unowned)
        runnable = (execution for execution in oldest if not self._why_blocked(execution, capabilities))
        return [self._take(execution) for execution in list(itertools.islice(runnable, limit))]

    def _take(self, execution: str) -> Claim:
        record = self._records[execution]
        self._unowned.discard(execution)
        self._owned.add(execution)
        record.fence += 1
        return Claim(record.summary, record.fence)

    def _why_blocked(self, execution: str, capabilities: Capabilities) -> str:
        revision = self._records[execution].summary.revision
        return why_blocked(revision, JOURNAL_FORMAT, self._definitions.get(revision), capabilities)

    async def renew(self) -> None:
        """Nothing to extend: nobody else can reach this memory."""
        self._opened()

    async def release(self, execution: str, fence: int) -> None:
        self._opened()
        if execution in self._owned and self._records[execution].fence == fence:
            self._owned.discard(execution)
            self._unowned.add(execution)

    async def blocked(self, tenant: str, capabilities: Capabilities) -> Mapping[str, str]:
        self._opened()
        mine = [execution for execution in self._unowned if self._records[execution].summary.tenant == tenant]
        reasons = {execution: self._why_blocked(execution, capabilities) for execution in mine}
        return {execution: reason for execution, reason in reasons.items() if reason}

    async def put_definition(self, definition: StoredDefinition) -> None:
        self._opened()
        self._definitions.setdefault(definition.revision, definition)

    async def get_definition(self, revision: str) -> StoredDefinition | None:
        self._opened()
        return self._definitions.get(revision)

    async def count(self) -> Mapping[str, int]:
        self._opened()
        found = Counter(str(record.summary.state) for record in self._records.values())
        return {state: found[state] for state in ExecutionState if state is not ExecutionState.BLOCKED}

    def _opened(self) -> JournalListener:
        if self._listener is None:
            raise closed()
        return self._listener

    def _owned_record(self, execution: str) -> _Record:
        if execution not in self._owned:
            raise not_owned(execution)
        return self._records[execution]


def _retried(where: Filter) -> str | None:
    """The execution whose retries are asked for, if that is what is asked."""
    return next(
        (str(one.value) for one in where.terms if one.field == "retry_of" and one.operator is Operator.EQ), None
    )
