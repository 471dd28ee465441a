"""A process that appends to the journal in the folder of its argument until it is killed.

Prints `execution sequence` once that event is durable, unbuffered, so that what it printed was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.core.clock import Micros
from torana_server.core.ids import new_id
from torana_server.execution.events import EventKind
from torana_server.execution.ports import Commit, ExecutionState, StoredEvent, Summary, Transition, Watched

CALLERS = 16
EVENTS = 6


class Listener:
    def committed(self, commits: Sequence[Commit]) -> None:
        pass

    def requested(self, execution: str) -> None:
        pass

    def failed(self, error: Exception) -> None:
        raise error

    def claimable(self) -> None:
        raise AssertionError("no other server shares this journal")

    def disowned(self) -> None:
        raise AssertionError("no other server shares this journal")

    def watched(self) -> Watched:
        return Watched()


def event(execution: str, sequence: int) -> StoredEvent:
    return StoredEvent(sequence, EventKind.STEP_LOG, "step", f"{execution} {sequence}".encode() * 20)


def acknowledge(execution: str, sequence: int) -> None:
    os.write(1, f"{execution} {sequence}\n".encode())


async def run_one(journal: SqliteJournal) -> None:
    execution = new_id()
    summary = Summary(
        execution=execution,
        tenant="acme",
        workflow="etl",
        revision="r1",
        state=ExecutionState.QUEUED,
        create_time=Micros(1),
        idempotency_key=execution,
    )
    fence = (await journal.create(summary, [event(execution, 1)])).fence
    acknowledge(execution, 1)
    for sequence in range(2, EVENTS + 1):
        end = Transition(ExecutionState.COMPLETED, end_time=Micros(2)) if sequence == EVENTS else None
        await journal.append(execution, sequence - 1, [event(execution, sequence)], fence, end)
        acknowledge(execution, sequence)


async def run_for_ever(journal: SqliteJournal) -> None:
    while True:
        await run_one(journal)


async def main() -> None:
    journal = SqliteJournal(Path(sys.argv[1]))
    await journal.open(Listener())
    await asyncio.gather(*(run_for_ever(journal) for _ in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(main())
