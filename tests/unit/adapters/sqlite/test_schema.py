from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest

from torana_server.adapters.sqlite import queries, schema
from torana_server.adapters.sqlite.database import check_version
from torana_server.core.errors import UnavailableError
from torana_server.execution.filters import EVERYTHING, Filter, Operator, Term

RECORDED = Path(__file__).parent / "schemas"


@pytest.fixture
def fresh() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    schema.migrate(connection)
    return connection


def tables(connection: apsw.Connection) -> dict[str, str]:
    rows = connection.execute("SELECT type || ' ' || name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {name: re.sub(r"\s+", " ", re.sub(r"--.*", "", sql)).strip() for name, sql in rows}


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_every_recorded_version_migrates_to_what_is_made_fresh(version: int, fresh: apsw.Connection) -> None:
    old = apsw.Connection(":memory:")
    old.execute((RECORDED / f"{version}.sql").read_text())
    old.execute(f"PRAGMA user_version = {version}; PRAGMA application_id = {schema.APPLICATION_ID}")
    schema.migrate(old)
    assert tables(old) == tables(fresh)
    assert old.execute("PRAGMA user_version").get == schema.VERSION
    assert list(old.execute("SELECT * FROM counts")) == list(fresh.execute("SELECT * FROM counts"))


def test_every_version_has_its_migration() -> None:
    assert sorted(schema.MIGRATIONS) == list(range(2, schema.VERSION + 1))


def test_migrating_twice_changes_nothing(fresh: apsw.Connection) -> None:
    before = tables(fresh)
    schema.migrate(fresh)
    assert tables(fresh) == before


def test_a_newer_journal_is_refused(fresh: apsw.Connection) -> None:
    fresh.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(UnavailableError, match="start a server at least as new"):
        schema.migrate(fresh)


def test_the_file_of_another_program_is_refused() -> None:
    other = apsw.Connection(":memory:")
    other.execute("CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(UnavailableError, match="belongs to another program"):
        schema.migrate(other)


def test_a_migration_that_fails_leaves_nothing_behind(fresh: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tables(fresh)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {schema.VERSION: "CREATE TABLE more (id INTEGER); SELECT * FROM nothing"})
    with pytest.raises(apsw.SQLError):
        schema.migrate(fresh)
    assert tables(fresh) == before
    assert fresh.execute("PRAGMA user_version").get == schema.VERSION - 1


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2"])
def test_a_sqlite_that_can_corrupt_a_wal_is_refused(version: str) -> None:
    with pytest.raises(UnavailableError, match=f"SQLite {version} can corrupt"):
        check_version(version)


def test_a_sound_sqlite_is_taken() -> None:
    for version in ("3.51.3", "3.53.0", "4.0.0", apsw.sqlite_lib_version()):
        check_version(version)


def plan(connection: apsw.Connection, sql: str) -> str:
    bindings = (None,) * sql.count("?")
    return "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings))


WORKFLOW = Term("workflow", Operator.EQ, "etl")
STATE = Term("state", Operator.EQ, "FAILED")


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (EVERYTHING, "executions_tenant"),
        (Filter((WORKFLOW,)), "executions_workflow"),
        (Filter((STATE,)), "executions_state"),
        (Filter((Term("retry_of", Operator.EQ, "e1"),)), "executions_retries"),
    ],
)
@pytest.mark.parametrize("before", [None, "e"])
def test_lists_walk_an_index_and_sort_nothing(
    fresh: apsw.Connection, where: Filter, index: str, before: str | None
) -> None:
    found = plan(fresh, queries.summaries("t", where, 10, before)[0])
    assert f"SEARCH x USING INDEX {index}" in found
    assert "TEMP B-TREE" not in found


@pytest.mark.parametrize(
    ("sql", "uses"),
    [
        (queries.GET, "SEARCH x USING INDEX executions_id"),
        (queries.FIND, "SEARCH x USING INDEX executions_idempotency"),
        (next(queries.padded(queries.FIND_KEYS, [("t", "w", "k")] * 4))[0], "x USING INDEX executions_idempotency"),
        (queries.READ, "SEARCH events USING INDEX events_sequence"),
        (queries.COMMANDS, "SEARCH x USING INDEX executions_id"),
        (queries.UNOWNED_REVISIONS, "INDEX executions_unfinished"),
        (queries.CLAIMABLE, "SEARCH x USING INDEX executions_unfinished"),
        (queries.UNOWNED_OF_TENANT, "SEARCH executions USING INDEX executions_unfinished"),
        (queries.TAKE, "SEARCH executions USING INTEGER PRIMARY KEY"),
        (next(queries.padded(queries.MOVE_EXECUTIONS, [(1, 2, 3, 4, 5)]))[0], "executions USING INTEGER PRIMARY KEY"),
        (queries.LAST_KEY, "SEARCH executions"),
    ],
)
def test_no_statement_reads_history(fresh: apsw.Connection, sql: str, uses: str) -> None:
    found = plan(fresh, sql)
    assert uses in found
    assert "SCAN events" not in found
    assert "SCAN executions" not in found


def test_rows_are_padded_to_few_sizes() -> None:
    sizes = {}
    for rows in range(1, 600):
        calls = list(queries.padded("{values}", [(n, "x") for n in range(rows)]))
        values = [pair for _, bindings in calls for pair in zip(bindings[::2], bindings[1::2], strict=True)]
        assert [pair for pair in values if pair[0] is not None] == [(n, "x") for n in range(rows)]
        sizes.update(dict(calls_of(calls)))
    assert len(sizes) == 9, "1, 2, 4 … 256 rows"


def calls_of(calls: list[tuple[str, list[object]]]) -> list[tuple[str, int]]:
    return [(sql, len(bindings)) for sql, bindings in calls]
