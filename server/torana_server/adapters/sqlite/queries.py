"""Every statement of the journal by name, and the rows that go in and come out. `schema.sql` says what columns mean."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from torana_server.execution.events import EventKind
from torana_server.execution.filters import LABEL_PREFIX, Filter, Operator, Term
from torana_server.execution.ports import ExecutionState, PositionedEvent, StoredDefinition, StoredEvent, Summary

Row = tuple[Any, ...]
Bindings = list[Any]

STATE_NUMBERS: Final[Mapping[str, int]] = {
    ExecutionState.QUEUED: 1,
    ExecutionState.RUNNING: 2,
    ExecutionState.CANCELLING: 3,
    ExecutionState.COMPLETED: 4,
    ExecutionState.FAILED: 5,
    ExecutionState.CANCELLED: 6,
}
STATES: Final[Mapping[int, ExecutionState]] = {number: ExecutionState(state) for state, number in STATE_NUMBERS.items()}

SUMMARY_COLUMNS: Final = """
    x.id, x.tenant, x.workflow, x.revision, x.state, x.create_time, x.start_time, x.end_time,
    CASE WHEN x.state <= 3 THEN (SELECT coalesce(max(sequence), 0) FROM events WHERE execution = x.key)
         ELSE x.latest_sequence END,
    x.labels, x.session_id, x.idempotency_key, x.request_hash, x.retry_of, x.oldest_sequence
"""

# Writing. One statement takes all rows of a group: each call into SQLite gives up Python's lock, and getting it back
# from a busy event loop can take 5 ms. `padded` fills {values}; a row that begins with NULL is padding.

INSERT_EXECUTIONS: Final = """
    INSERT INTO executions (key, id, tenant, workflow, revision, state, owner, fence, latest_sequence, oldest_sequence,
        create_time, start_time, end_time, journal_format, session_id, idempotency_key, request_hash, retry_of, labels)
    SELECT * FROM ({values}) WHERE column1 IS NOT NULL
"""
INSERT_EVENTS: Final = """
    INSERT INTO events (position, execution, sequence, kind, step, data)
    SELECT * FROM ({values}) WHERE column1 IS NOT NULL
"""
MOVE_EXECUTIONS: Final = """
    UPDATE executions SET state = v.column2, latest_sequence = v.column3,
        start_time = coalesce(v.column4, start_time), end_time = coalesce(v.column5, end_time)
    FROM ({values}) AS v WHERE executions.key = v.column1
"""
FIND_KEYS: Final = f"""
    SELECT {SUMMARY_COLUMNS} FROM ({{values}}) AS v CROSS JOIN executions AS x
    ON x.tenant = v.column1 AND x.workflow = v.column2 AND x.idempotency_key = v.column3
    WHERE x.idempotency_key <> ''
"""  # noqa: S608 — constants
INSERT_COMMAND: Final = """
    INSERT INTO commands (execution, kind, reason, subject)
    SELECT key, 'cancel', ?2, ?3 FROM executions WHERE id = ?1 AND state <= 3
    ON CONFLICT DO NOTHING
"""
INSERT_DEFINITION: Final = """
    INSERT INTO definitions (revision, name, body, requires) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
RELEASE: Final = "UPDATE executions SET owner = 0 WHERE key = ?"

# Opening and claiming.

NEXT_OPENING: Final = "UPDATE journal SET opening = opening + 1 RETURNING opening"
LAST_KEY: Final = "SELECT coalesce(max(key), 0) FROM executions"
POSITION: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
UNOWNED_REVISIONS: Final = """
    SELECT DISTINCT revision FROM executions INDEXED BY executions_unfinished
    WHERE state <= 3 AND owner < ?
"""
CLAIMABLE: Final = f"""
    SELECT x.key, x.fence + 1, {SUMMARY_COLUMNS} FROM executions AS x INDEXED BY executions_unfinished
    WHERE x.state <= 3 AND x.owner < ?1 AND x.journal_format <= ?2
        AND x.revision NOT IN (SELECT value FROM json_each(?3))
    ORDER BY x.key LIMIT ?4
"""  # noqa: S608 — constants
TAKE: Final = """
    UPDATE executions SET owner = ?1, fence = fence + 1 WHERE key IN (SELECT value FROM json_each(?2))
"""
UNOWNED_OF_TENANT: Final = """
    SELECT id, revision, journal_format FROM executions INDEXED BY executions_unfinished
    WHERE state <= 3 AND owner < ? AND tenant = ?
"""

# Reading.

GET: Final = f"SELECT {SUMMARY_COLUMNS} FROM executions AS x WHERE x.id = ?"  # noqa: S608 — constants
FIND: Final = f"""
    SELECT {SUMMARY_COLUMNS} FROM executions AS x
    WHERE x.tenant = ? AND x.workflow = ? AND x.idempotency_key = ? AND x.idempotency_key <> ''
"""  # noqa: S608 — constants
SUMMARIES: Final = f"""
    SELECT {SUMMARY_COLUMNS} FROM executions AS x
    WHERE x.tenant = ? {{before}} {{where}} ORDER BY x.id DESC LIMIT ?
"""  # noqa: S608 — constants
READ: Final = """
    SELECT sequence, kind, step, data FROM events
    WHERE execution = (SELECT key FROM executions WHERE id = ?) AND sequence > ? ORDER BY sequence LIMIT ?
"""
READ_ALL: Final = """
    SELECT e.position, x.id, e.sequence, e.kind, e.step, e.data
    FROM events AS e CROSS JOIN executions AS x ON x.key = e.execution
    WHERE e.position > ? AND e.position <= ? AND x.tenant = ? {kinds} {where} ORDER BY e.position LIMIT ?
"""
COMMANDS: Final = """
    SELECT c.reason, c.subject FROM executions AS x JOIN commands AS c ON c.execution = x.key
    WHERE x.id = ? AND x.state <= 3
"""
DEFINITION: Final = "SELECT revision, name, body, requires FROM definitions WHERE revision = ?"
DEFINITIONS: Final = """
    SELECT revision, name, body, requires FROM definitions WHERE revision IN (SELECT value FROM json_each(?))
"""
COUNTS: Final = "SELECT state, executions FROM counts"

ROWS_MAX: Final = 256


@functools.cache
def _of_size(statement: str, rows: int, width: int) -> str:
    row = f"({','.join('?' * width)})"
    return statement.format(values=f"VALUES {','.join([row] * rows)}")


def padded(statement: str, rows: Sequence[Row]) -> Iterator[tuple[str, Bindings]]:
    """The statement over all rows: as few calls as ROWS_MAX allows, in sizes so few that all stay prepared."""
    for start in range(0, len(rows), ROWS_MAX):
        some = rows[start : start + ROWS_MAX]
        size = 1 << (len(some) - 1).bit_length()
        width = len(some[0])
        bindings = [value for row in some for value in row]
        bindings.extend([None] * (width * (size - len(some))))
        yield _of_size(statement, size, width), bindings


def execution_row(key: int, summary: Summary, *, owner: int, fence: int, latest: int, journal_format: int) -> Row:
    """A row of INSERT_EXECUTIONS."""
    return (
        key,
        summary.execution,
        summary.tenant,
        summary.workflow,
        summary.revision,
        STATE_NUMBERS[summary.state],
        owner,
        fence,
        latest,
        summary.oldest_sequence,
        summary.create_time,
        summary.start_time,
        summary.end_time,
        journal_format,
        summary.session_id,
        summary.idempotency_key,
        summary.request_hash,
        summary.retry_of,
        json.dumps(dict(summary.labels), ensure_ascii=False) if summary.labels else "{}",
    )


def summary(row: Row) -> Summary:
    """From a row of SUMMARY_COLUMNS."""
    return Summary(
        execution=row[0],
        tenant=row[1],
        workflow=row[2],
        revision=row[3],
        state=STATES[row[4]],
        create_time=row[5],
        start_time=row[6],
        end_time=row[7],
        latest_sequence=row[8],
        labels={} if row[9] == "{}" else json.loads(row[9]),
        session_id=row[10],
        idempotency_key=row[11],
        request_hash=row[12],
        retry_of=row[13],
        oldest_sequence=row[14],
    )


def event(row: Row) -> StoredEvent:
    """From (sequence, kind, step, data)."""
    return StoredEvent(row[0], EventKind(row[1]), row[2], row[3])


def positioned(row: Row) -> PositionedEvent:
    """From a row of READ_ALL."""
    return PositionedEvent(row[0], row[1], event(row[2:]))


def definition_row(definition: StoredDefinition) -> Row:
    return definition.revision, definition.name, definition.body, json.dumps(sorted(definition.requires))


def definition(row: Row) -> StoredDefinition:
    return StoredDefinition(row[0], row[1], row[2], frozenset(json.loads(row[3])))


def summaries(tenant: str, where: Filter, limit: int, before: str | None) -> tuple[str, Bindings]:
    conditions, values = _conditions(where)
    after = [] if before is None else [before]
    sql = SUMMARIES.format(before="" if before is None else "AND x.id < ?", where=conditions)
    return sql, [tenant, *after, *values, limit]


def read_all(
    tenant: str, after: int, through: int, where: Filter, kinds: frozenset[EventKind], limit: int
) -> tuple[str, Bindings]:
    conditions, values = _conditions(where)
    among = f"AND e.kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
    sql = READ_ALL.format(kinds=among, where=conditions)
    return sql, [after, through, tenant, *(int(kind) for kind in sorted(kinds)), *values, limit]


_OPERATORS: Final[Mapping[Operator, str]] = {
    Operator.EQ: "=",
    Operator.NE: "IS NOT",  # holds for what is not set, as `filters.matches` has it
    Operator.LT: "<",
    Operator.GT: ">",
}
_COLUMNS: Final[Mapping[str, str]] = {
    "workflow": "x.workflow",
    "state": "x.state",
    "session_id": "x.session_id",
    "retry_of": "x.retry_of <> '' AND x.retry_of",  # as its index has it
    "create_time": "x.create_time",
    "end_time": "x.end_time",
}
_LABEL: Final = "(SELECT value FROM json_each(x.labels) WHERE key = ?)"
_NO_STATE: Final = 0


def _conditions(where: Filter) -> tuple[str, Bindings]:
    """SQL over `executions AS x`; everything that came from a caller is bound, never part of the text."""
    parts: list[str] = []
    values: Bindings = []
    for term in where.terms:
        column, bound = _column(term)
        parts.append(f"AND {column} {_OPERATORS[term.operator]} ?")
        values.extend(bound)
    return " ".join(parts), values


def _column(term: Term) -> tuple[str, Bindings]:
    if term.field.startswith(LABEL_PREFIX):
        return _LABEL, [term.field.removeprefix(LABEL_PREFIX), term.value]
    if term.field == "state":
        return _COLUMNS["state"], [STATE_NUMBERS.get(str(term.value), _NO_STATE)]
    return _COLUMNS[term.field], [term.value]
