"""What really happened in one simulated run, in the order in which it happened, as nobody inside could know it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from torana_server.execution import ALL_EVENTS, EventFilter, StoredEvent, Summary
from torana_server.workflow import Definition


class Committed(NamedTuple):
    """The database made these durable. `fence` is the one that the writer named, `granted` the highest one given."""

    at_s: float
    replica: int
    execution: str
    events: tuple[StoredEvent, ...]
    fence: int
    granted: int


class Granted(NamedTuple):
    """A replica owns the execution from now on."""

    at_s: float
    replica: int
    execution: str
    fence: int


class Requested(NamedTuple):
    """A cancel is durable."""

    at_s: float
    execution: str


class Begun(NamedTuple):
    """A step's code began. `recorded` tells whether its start was durable then, `restored` the checkpoint it got."""

    at_s: float
    machine: str
    effect: int
    execution: str
    step: str
    attempt: int
    key: str
    restored: str | None
    recorded: bool
    owned: bool
    """Whether its process owned the execution then, whatever that process believed."""


class Saved(NamedTuple):
    """A step's code was told that its checkpoint is durable. `recorded` tells whether it was."""

    at_s: float
    effect: int
    value: str
    recorded: bool


class Finished(NamedTuple):
    """A step's code returned this output; "" when it is one that no journal can hold."""

    at_s: float
    effect: int
    output: str


class Sent(NamedTuple):
    """A replica let a batch out. `lost` are sequences of it that were not durable then."""

    at_s: float
    machine: str
    execution: str
    lost: tuple[int, ...]


class Seen(NamedTuple):
    """A watcher got a batch."""

    at_s: float
    watcher: int
    execution: str
    where: EventFilter
    after: int
    through: int
    events: tuple[StoredEvent, ...]


class Asked(NamedTuple):
    """A client asks for an execution to be started. Asking again with the same key is part of the same `call`."""

    at_s: float
    call: int
    workflow: str
    key: str
    parameters: str


class Told(NamedTuple):
    """What a client was told: the execution, or the reason of an error ("" and the other)."""

    at_s: float
    call: int
    method: str
    execution: str
    reason: str
    attached: bool = False


class Fault(NamedTuple):
    """Something went wrong, or unusually, on purpose."""

    at_s: float
    kind: str
    where: str


Entry = Committed | Granted | Requested | Begun | Saved | Finished | Sent | Seen | Asked | Told | Fault
Kind = TypeVar("Kind", bound=Entry)


@dataclass
class History:
    entries: list[Entry] = field(default_factory=list)
    journal: dict[str, tuple[Summary, list[StoredEvent]]] = field(default_factory=dict)
    """What the journal holds in the end."""
    definitions: list[Definition] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    """Errors that the engine met and did not expect."""
    unfinished: list[str] = field(default_factory=list)
    """What had not settled long after the last fault."""

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)

    def of(self, kind: type[Kind]) -> Iterator[Kind]:
        return (entry for entry in self.entries if type(entry) is kind)

    def faults(self) -> Counter[str]:
        return Counter(fault.kind for fault in self.of(Fault))

    @property
    def digest(self) -> str:
        """Of every detail: two runs with the same digest were the same, in whichever processes."""
        parts = [_text(entry) for entry in self.entries]
        parts += [f"{summary} {_of_any_order(events)}" for summary, events in self.journal.values()]
        return hashlib.sha256("\n".join([*parts, *self.defects, *self.unfinished]).encode()).hexdigest()


def _text(entry: Entry) -> str:
    if isinstance(entry, Seen):
        entry = entry._replace(where=ALL_EVENTS)  # it holds sets of texts
    if isinstance(entry, Seen | Committed):
        entry = entry._replace(events=_of_any_order(entry.events))
    return repr(entry)


def _of_any_order(events: Iterable[StoredEvent]) -> tuple[StoredEvent, ...]:
    """Sets of texts and mappings of protobuf have another order in each process."""
    return tuple(event._replace(data=bytes(sorted(event.data))) for event in events)
