"""What a killed process leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contract.journal_parts import Watcher
from crash import journal_child
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.core.errors import Reason, StateError
from torana_server.execution.filters import EVERYTHING
from torana_server.execution.ports import ExecutionState


def child(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, journal_child.__file__, str(folder)], stdout=subprocess.PIPE, text=True, bufsize=1
    )


def killed_after(folder: Path, acknowledgements: int) -> dict[str, int]:
    """The last sequence that was acknowledged of each execution, up to and after the moment of the kill."""
    acknowledged: dict[str, int] = {}
    with child(folder) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            execution, sequence = line.split()
            acknowledged[execution] = int(sequence)
            if number == acknowledgements:
                process.kill()
    return acknowledged


@pytest.mark.slow
async def test_everything_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for acknowledgements in (50, 700, 2_000):
        acknowledged |= killed_after(tmp_path, acknowledgements)
    journal = SqliteJournal(tmp_path)
    await journal.open(Watcher())
    for execution, sequence in acknowledged.items():
        found = await journal.read(execution, 0, limit=100, limit_bytes=1 << 20)
        assert len(found) >= sequence, f"{execution} lost event {sequence}"
        assert found == [journal_child.event(execution, n + 1) for n in range(len(found))]
    await assert_whole(journal)
    await journal.close()


async def assert_whole(journal: SqliteJournal) -> None:
    """Summaries, events and counts agree, for what was acknowledged and what was not."""
    stored, before = [], None
    while page := await journal.summaries("acme", EVERYTHING, limit=1_000, before=before):
        stored += page
        before = page[-1].execution
    for summary in stored:
        assert len(await journal.read(summary.execution, 0, limit=100, limit_bytes=1 << 20)) == summary.latest_sequence
        ended = summary.latest_sequence == journal_child.EVENTS
        assert (summary.state is ExecutionState.COMPLETED) == ended
    counts = await journal.count()
    assert sum(counts.values()) == len(stored)
    assert counts["COMPLETED"] == sum(summary.state is ExecutionState.COMPLETED for summary in stored)


@pytest.mark.slow
async def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with child(tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StateError) as refused:
            await SqliteJournal(tmp_path).open(Watcher())
        process.kill()
    assert refused.value.reason is Reason.JOURNAL_IN_USE
    journal = SqliteJournal(tmp_path)
    await journal.open(Watcher())
    await journal.close()
