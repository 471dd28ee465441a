"""What a journal has promised: the contents that its acknowledged groups of writes add up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torana_server.adapters.sqlite import writes
from torana_server.adapters.sqlite.ledger import Committed, Ledger
from torana_server.adapters.sqlite.writes import Write
from torana_server.execution.ports import (
    TERMINAL_STATES,
    CancelRequest,
    Created,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
)

Settled = Sequence[tuple[Write, object]]
"""Writes that were acknowledged, each with what its caller was told."""


class Begun(NamedTuple):
    """A mark in the log: a group of writes is being made durable from here on."""


class Acknowledged(NamedTuple):
    """A mark in the log: from here on the group is promised."""

    settled: Settled


@dataclass(frozen=True, slots=True)
class Kept:
    summary: Summary
    events: tuple[StoredEvent, ...]
    fence: int
    command: CancelRequest | None = None

    @property
    def ended(self) -> bool:
        return self.summary.state in TERMINAL_STATES

    def appended(self, events: Sequence[StoredEvent], transition: Transition | None) -> Kept:
        summary = replace(self.summary, latest_sequence=self.summary.latest_sequence + len(events))
        if transition is not None:
            summary = replace(
                summary,
                state=transition.state,
                start_time=summary.start_time if transition.start_time is None else transition.start_time,
                end_time=summary.end_time if transition.end_time is None else transition.end_time,
            )
        return replace(self, summary=summary, events=(*self.events, *events))


@dataclass(frozen=True, slots=True)
class Promised:
    executions: Mapping[str, Kept] = field(default_factory=dict)
    definitions: Mapping[str, StoredDefinition] = field(default_factory=dict)

    def after(self, settled: Settled) -> Promised:
        executions, definitions = dict(self.executions), dict(self.definitions)
        for write, told in settled:
            match write:
                case writes.Create(summary=summary, events=events):
                    if isinstance(told, Created) and told.created:
                        created = replace(summary, latest_sequence=len(events))
                        executions[summary.execution] = Kept(created, tuple(events), told.fence)
                case writes.Append(execution=id_, events=events, transition=transition):
                    executions[id_] = executions[id_].appended(events, transition)
                case writes.Request(execution=id_, command=command):
                    if not executions[id_].ended and executions[id_].command is None:
                        executions[id_] = replace(executions[id_], command=command)
                case writes.TakeOver():
                    assert isinstance(told, list)
                    for claim in told:
                        id_ = claim.summary.execution
                        executions[id_] = replace(executions[id_], fence=claim.fence)
                case writes.PutDefinition(definition=definition):
                    definitions.setdefault(definition.revision, definition)
        return Promised(executions, definitions)


class RecordedLedger(Ledger):
    """The real one, which marks in the log when a group begins and when it is promised."""

    def __init__(self, log: list[Any], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._log = log

    def commit(self, group: Sequence[Write]) -> Committed:
        self._log.append(Begun())
        committed = super().commit(group)
        pairs = zip(group, committed.outcomes, strict=True)
        self._log.append(Acknowledged([(write, outcome.value) for write, outcome in pairs if outcome.error is None]))
        return committed


class Moment(NamedTuple):
    """What must be found after a crash: `promised`, or everything that the group under way adds, but no part of it."""

    promised: Promised
    possible: Promised


def moments(log: Sequence[object], before: Promised) -> Iterator[Moment]:
    """For each place in the log, before its entry; and one for its end."""
    promised = possible = before
    for number, entry in enumerate(log):
        yield Moment(promised, possible)
        if isinstance(entry, Begun):
            possible = promised.after(_next_acknowledged(log, number))
        elif isinstance(entry, Acknowledged):
            promised = possible = promised.after(entry.settled)
    yield Moment(promised, possible)


def _next_acknowledged(log: Sequence[object], start: int) -> Settled:
    """What the group that begins here becomes; the last one of a recording that was cut short becomes nothing."""
    for entry in log[start + 1 :]:
        if isinstance(entry, Acknowledged):
            return entry.settled
    return ()
