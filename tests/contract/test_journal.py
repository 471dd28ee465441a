"""The journals, each against the suite that its `durable` asks for."""

from __future__ import annotations

from pathlib import Path

from contract.journal_suite import DurableJournalSuite, JournalSuite
from torana_server.adapters.memory.journal import MemoryJournal
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.execution.ports import Journal


class TestMemoryJournal(JournalSuite):
    """Without the durable part of the suite: nothing here is meant to survive."""

    def make(self, folder: Path) -> Journal:
        return MemoryJournal()


class TestSqliteJournal(DurableJournalSuite):
    def make(self, folder: Path) -> Journal:
        return SqliteJournal(folder / "journal")
