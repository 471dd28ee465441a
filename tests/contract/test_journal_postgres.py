"""The journal on PostgreSQL against the suite of durable journals, and what several servers on one promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.journal_suite import DurableJournalSuite
from integration.conftest import PostgresDatabase
from torana_server.adapters.postgres.journal import PostgresJournal
from torana_server.execution.ports import Journal


class TestPostgresJournal(DurableJournalSuite):
    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresDatabase) -> None:
        self.database = postgres

    def make(self, folder: Path) -> Journal:
        return PostgresJournal(self.database.url)
