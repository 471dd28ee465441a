"""Many runs: what happened in them, and which promises they broke."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from simulation.history import History, Told
from simulation.promises import Record, broken
from simulation.scenario import NO_PLANT, Plant, simulate
from torana_server.core.errors import Reason
from torana_server.execution import EventKind
from torana_server.execution.events import Cancelling, Failed, StepFailed, StepRetrying

FAULTS: Final = frozenset(
    {
        "acknowledgement lost",
        "clock set",
        "commit slow",
        "connection cut",
        "crash after commit",
        "crash at an await",
        "crash before commit",
        "crash during commit",
        "database away",
        "disk full",
        "drain",
        "group lost",
        "hint late",
        "hint lost",
        "hints merged",
        "journal failed",
        "lease expired",
        "ownership unknown",
        "pause",
        "start without a database",
        "watcher left and came back",
        "write refused",
        "write took place after its error",
        "write took place after its sender died",
    }
)
CONSEQUENCES: Final = frozenset(
    {
        *(kind.name for kind in EventKind if kind is not EventKind.STEP_SCHEDULED),
        "attached by key",
        "cancelled for want of callers",
        f"error {Reason.EXECUTION_TIMEOUT}",
        f"error {Reason.STEP_FAILED}",
        f"error {Reason.STEP_TIMEOUT}",
        f"error {Reason.VALUE_TOO_LARGE}",
        "told DEADLINE_EXCEEDED",
        f"told {Reason.IDEMPOTENCY_CONFLICT}",
        f"told {Reason.JOURNAL_UNAVAILABLE}",
        f"told {Reason.QUEUE_FULL}",
        f"told {Reason.SERVER_DRAINING}",
        f"told {Reason.WORKFLOW_NOT_FOUND}",
    }
)
"""What must come of them somewhere, or the promises were held against too little."""


@dataclass
class Tally:
    happened: Counter[str] = field(default_factory=Counter)
    """In how many runs, by kind."""
    broken: dict[int, list[str]] = field(default_factory=dict)
    """By seed."""

    def add(self, seed: int, history: History) -> None:
        self.happened.update(set(history.faults()) | consequences(history))
        what = broken(history)
        if what:
            self.broken[seed] = what

    @property
    def report(self) -> str:
        lines = []
        for seed, what in sorted(self.broken.items()):
            lines += [f"seed {seed} (again, with all that happened: make simulate SEED={seed})", *what[:5]]
        return "\n  ".join(lines)


def campaign(seeds: Iterable[int], plant: Plant = NO_PLANT) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.add(seed, simulate(seed, plant))
    return tally


def consequences(history: History) -> set[str]:
    """The kinds of events that the journal holds, the errors in them, and those that callers were told."""
    found = set()
    for events in Record(history).events.values():
        for event in events:
            found.add(event.body.kind.name)
            if isinstance(event.body, StepFailed | StepRetrying | Failed):
                found.add(f"error {event.body.error.reason}")
            elif isinstance(event.body, Cancelling) and not event.body.subject:
                found.add("cancelled for want of callers")
    for told in history.of(Told):
        found.add(f"told {told.reason}" if told.reason else "attached by key" if told.attached else "started")
    return found
