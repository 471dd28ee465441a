"""Every statement of the journal by name, and the rows that go in and come out. `schema.sql` says what columns mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from torana_server.adapters.postgres.texts import escaped, plain
from torana_server.execution.events import EventKind
from torana_server.execution.filters import LABEL_PREFIX, Filter, Operator, Term
from torana_server.execution.ports import (
    CancelRequest,
    ExecutionState,
    PositionedEvent,
    StoredDefinition,
    StoredEvent,
    Summary,
)

Row = Sequence[Any] | asyncpg.Record

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
    x.labels::text, x.session_id, x.idempotency_key, x.request_hash, x.retry_of, x.oldest_sequence
"""

# Writing. One statement is one group and one transaction: one round trip, and nothing is half done when it is lost.

WRITE_GROUP: Final = """
    WITH lease AS (
        UPDATE replicas SET written = $2, lease_until = clock_timestamp() + $3::interval,
            completed = completed + $4, failed = failed + $5, cancelled = cancelled + $6
        WHERE id = $1 AND written < $2
        RETURNING (pg_current_xact_id()::text::bigint + (SELECT position_base FROM journal)) << 20 AS position
    ), created AS (
        INSERT INTO executions (key, id, tenant, workflow, revision, state, owner, fence, latest_sequence,
            oldest_sequence, create_time, start_time, end_time, journal_format, session_id, idempotency_key,
            request_hash, retry_of, labels)
        SELECT c.key, c.id, c.tenant, c.workflow, c.revision, c.state, $1, 1, c.latest, c.oldest, c.create_time,
            c.start_time, c.end_time, c.journal_format, c.session_id, c.idempotency_key, c.request_hash, c.retry_of,
            c.labels
        FROM lease, unnest($7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::smallint[],
            $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::integer[], $19::text[],
            $20::text[], $21::bytea[], $22::text[], $23::jsonb[])
            AS c (key, id, tenant, workflow, revision, state, latest, oldest, create_time, start_time, end_time,
                journal_format, session_id, idempotency_key, request_hash, retry_of, labels)
        ORDER BY c.tenant, c.workflow, c.idempotency_key -- in one order, or two servers wait for each other
        ON CONFLICT DO NOTHING
        RETURNING key
    ), added AS (
        INSERT INTO events (position, execution, sequence, kind, step, data)
        SELECT lease.position + e.number, e.execution, e.sequence, e.kind, e.step, e.data
        FROM lease, unnest($24::bigint[], $25::bigint[], $26::smallint[], $27::text[], $28::bytea[])
            WITH ORDINALITY AS e (execution, sequence, kind, step, data, number)
        WHERE e.execution <> ALL ($7) OR e.execution IN (SELECT key FROM created)
    ), moved AS (
        UPDATE executions AS x SET state = m.state, latest_sequence = m.latest,
            start_time = coalesce(m.start_time, x.start_time), end_time = coalesce(m.end_time, x.end_time)
        FROM lease, unnest($29::bigint[], $30::smallint[], $31::bigint[], $32::bigint[], $33::bigint[])
            AS m (key, state, latest, start_time, end_time)
        WHERE x.key = m.key
    ), settled AS (
        DELETE FROM commands AS c USING lease, unnest($29::bigint[], $30::smallint[]) AS m (key, state)
        WHERE c.execution = m.key AND m.state > 3
    )
    SELECT position, ARRAY(SELECT key FROM created) FROM lease
"""
"""Nothing at all without the replica's row, or after FENCE with a number as high: a statement of a connection that was
given up may still arrive."""
WRITTEN: Final = "SELECT written FROM replicas WHERE id = $1 FOR UPDATE"
FENCE: Final = "UPDATE replicas SET written = $2, lease_until = clock_timestamp() + $3::interval WHERE id = $1"
CREATED: Final = "SELECT key FROM executions WHERE key = ANY ($1::bigint[])"
KEYS: Final = "SELECT nextval('execution_keys')"
KEYS_BLOCK: Final = 1_000
INSERT_COMMAND: Final = """
    WITH asked AS (SELECT key, owner FROM executions WHERE id = $1 AND state <= 3),
    inserted AS (
        INSERT INTO commands (execution, kind, reason, subject) SELECT key, 'cancel', $2, $3 FROM asked
        ON CONFLICT DO NOTHING
    )
    SELECT owner FROM asked
"""
INSERT_DEFINITION: Final = """
    INSERT INTO definitions (revision, name, body, requires) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
RELEASE: Final = "UPDATE executions SET owner = 0 WHERE key = $1 AND owner = $2 AND fence = $3"
RELEASE_ALL_BUT: Final = """
    UPDATE executions SET owner = 0 WHERE owner = $1 AND state <= 3 AND key <> ALL ($2::bigint[])
"""

# Replicas and claims.

JOIN: Final = "INSERT INTO replicas (lease_until) VALUES (clock_timestamp() + $1::interval) RETURNING id"
RENEW: Final = """
    UPDATE replicas SET lease_until = clock_timestamp() + $2::interval
    WHERE id = $1 RETURNING id
"""
LEAVE: Final = """
    WITH gone AS (DELETE FROM replicas WHERE id = $1 RETURNING completed, failed, cancelled)
    UPDATE journal SET completed = journal.completed + gone.completed, failed = journal.failed + gone.failed,
        cancelled = journal.cancelled + gone.cancelled
    FROM gone
"""
_OWNERS: Final = """
    owners AS (
        (SELECT owner FROM executions WHERE state <= 3 ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT x.owner FROM executions AS x WHERE x.state <= 3 AND x.owner > o.owner ORDER BY x.owner LIMIT 1)
        FROM owners AS o WHERE o.owner IS NOT NULL
    )
"""
"""Whoever owns an unfinished execution, by one look at the index for each, however many executions there are."""
BURY: Final = f"""
    WITH RECURSIVE {_OWNERS}, gone AS (
        DELETE FROM replicas WHERE id IN (
            SELECT id FROM replicas WHERE lease_until <= clock_timestamp() AND id <> $1 FOR UPDATE SKIP LOCKED
        ) RETURNING id, completed, failed, cancelled
    ), summed AS (
        SELECT sum(completed) AS completed, sum(failed) AS failed, sum(cancelled) AS cancelled FROM gone
        HAVING count(*) > 0
    ), counted AS (
        UPDATE journal SET completed = journal.completed + summed.completed, failed = journal.failed + summed.failed,
            cancelled = journal.cancelled + summed.cancelled
        FROM summed
    )
    SELECT owner FROM owners
    WHERE owner IS NOT NULL
        AND (owner IN (SELECT id FROM gone) OR NOT EXISTS (SELECT FROM replicas AS r WHERE r.id = owner))
"""  # noqa: S608 — constants
"""Removes replicas whose lease ran out, and returns who of those that own something is gone. Ids are never used again,
so who is gone stays gone."""
LAPSED: Final = "SELECT EXISTS (SELECT FROM replicas WHERE lease_until <= clock_timestamp() AND id <> $1)"
UNOWNED_REVISIONS: Final = """
    SELECT DISTINCT x.revision FROM unnest($1::bigint[]) AS gone (id)
    CROSS JOIN LATERAL (SELECT revision FROM executions WHERE state <= 3 AND owner = gone.id) AS x
"""
TAKE: Final = f"""
    WITH lease AS (
        UPDATE replicas SET written = $2, lease_until = clock_timestamp() + $3::interval
        WHERE id = $1 AND written < $2
        RETURNING id
    ), oldest AS MATERIALIZED ( -- by an index of each owner; in that of ids history would be read
        SELECT x.key, x.owner FROM lease, unnest($4::bigint[]) AS gone (id)
        CROSS JOIN LATERAL (
            SELECT key, id, owner FROM executions
            WHERE state <= 3 AND owner = gone.id AND journal_format <= $5 AND revision <> ALL ($6::text[])
            ORDER BY id LIMIT $7
        ) AS x
        ORDER BY x.id LIMIT $7
    ), taken AS (
        SELECT x.key FROM executions AS x JOIN oldest AS o ON x.key = o.key
        WHERE x.owner = o.owner AND x.state <= 3
        FOR UPDATE OF x SKIP LOCKED
    )
    UPDATE executions AS x SET owner = $1, fence = x.fence + 1 FROM taken WHERE x.key = taken.key
    RETURNING x.key, x.fence, {SUMMARY_COLUMNS}
"""  # noqa: S608 — constants
UNOWNED_OF_TENANT: Final = f"""
    WITH RECURSIVE {_OWNERS}, gone AS MATERIALIZED (
        SELECT owner FROM owners WHERE NOT EXISTS (SELECT FROM replicas AS r WHERE r.id = owner)
    )
    SELECT x.id, x.revision, x.journal_format FROM gone CROSS JOIN LATERAL (
        SELECT id, revision, journal_format FROM executions WHERE state <= 3 AND owner = gone.owner AND tenant = $1
        OFFSET 0 -- so that nothing is read while nobody is gone
    ) AS x
"""  # noqa: S608 — constants

# Reading.

POSITION: Final = """
    SELECT coalesce(max(position), 0) FROM events WHERE position < (
        SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + position_base) << 20 FROM journal
    )
"""
"""Of events there for good, below which nothing will appear: no transaction that is open, or starts later, has an xid
as low. Transactions count that have written anything, in any database of the cluster."""
GET: Final = f"SELECT {SUMMARY_COLUMNS} FROM executions AS x WHERE x.id = $1"  # noqa: S608 — constants
FIND: Final = f"""
    SELECT {SUMMARY_COLUMNS} FROM executions AS x
    WHERE x.tenant = $1 AND x.workflow = $2 AND x.idempotency_key = $3 AND x.idempotency_key <> ''
"""  # noqa: S608 — constants
READ: Final = """
    SELECT sequence, kind, step, data FROM events
    WHERE execution = (SELECT key FROM executions WHERE id = $1) AND sequence > $2 ORDER BY sequence LIMIT $3
"""
COMMANDS: Final = """
    SELECT c.reason, c.subject FROM executions AS x JOIN commands AS c ON c.execution = x.key
    WHERE x.id = $1 AND x.state <= 3
"""
LATEST: Final = """
    SELECT x.id, x.tenant, (SELECT max(sequence) FROM events WHERE execution = x.key) FROM executions AS x
    WHERE x.id = ANY ($1::text[])
"""
COMMANDS_OF_OWNER: Final = """
    SELECT x.id FROM commands AS c JOIN executions AS x ON x.key = c.execution WHERE x.state <= 3 AND x.owner = $1
"""
DEFINITION: Final = "SELECT revision, name, body, requires FROM definitions WHERE revision = $1"
DEFINITIONS: Final = "SELECT revision, name, body, requires FROM definitions WHERE revision = ANY ($1::text[])"
COUNTS: Final = """
    SELECT (SELECT count(*) FILTER (WHERE state = 1) FROM executions WHERE state <= 3),
           (SELECT count(*) FILTER (WHERE state = 2) FROM executions WHERE state <= 3),
           (SELECT count(*) FILTER (WHERE state = 3) FROM executions WHERE state <= 3),
           j.completed + coalesce(r.completed, 0), j.failed + coalesce(r.failed, 0),
           j.cancelled + coalesce(r.cancelled, 0)
    FROM journal AS j, (
        SELECT sum(completed) AS completed, sum(failed) AS failed, sum(cancelled) AS cancelled FROM replicas
    ) AS r
"""


def summary(row: Row) -> Summary:
    """From a row of SUMMARY_COLUMNS."""
    return Summary(
        execution=plain(row[0]),
        tenant=plain(row[1]),
        workflow=plain(row[2]),
        revision=plain(row[3]),
        state=STATES[row[4]],
        create_time=row[5],
        start_time=row[6],
        end_time=row[7],
        latest_sequence=row[8],
        labels={} if row[9] == "{}" else {plain(key): plain(text) for key, text in json.loads(row[9]).items()},
        session_id=plain(row[10]),
        idempotency_key=plain(row[11]),
        request_hash=row[12],
        retry_of=plain(row[13]),
        oldest_sequence=row[14],
    )


def labels(given: Mapping[str, str]) -> str:
    return json.dumps({escaped(key): escaped(text) for key, text in given.items()}) if given else "{}"


def event(row: Row) -> StoredEvent:
    """From (sequence, kind, step, data)."""
    return StoredEvent(row[0], EventKind(row[1]), plain(row[2]), row[3])


def positioned(row: Row) -> PositionedEvent:
    """From (position, execution, sequence, kind, step, data)."""
    return PositionedEvent(row[0], plain(row[1]), StoredEvent(row[2], EventKind(row[3]), plain(row[4]), row[5]))


def command(row: Row) -> CancelRequest:
    return CancelRequest(plain(row[0]), plain(row[1]))


def definition(row: Row) -> StoredDefinition:
    return StoredDefinition(row[0], row[1], row[2], frozenset(row[3]))


class Bound:
    """Values bound to a statement, each by the next `$n`."""

    def __init__(self, *values: object) -> None:
        self.values: list[object] = list(values)

    def __call__(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


def summaries(tenant: str, where: Filter, limit: int, before: str | None) -> tuple[str, list[object]]:
    bound = Bound(escaped(tenant))
    start = "" if before is None else f"AND x.id < {bound(escaped(before))}"
    sql = f"""
        SELECT {SUMMARY_COLUMNS} FROM executions AS x WHERE x.tenant = $1 {start} {_conditions(where, bound)}
        ORDER BY x.id DESC LIMIT {bound(limit)}
    """  # noqa: S608 — what callers gave is bound
    return sql, bound.values


def read_all(
    tenant: str, after: int, through: int, where: Filter, kinds: frozenset[EventKind], limit: int
) -> tuple[str, list[object]]:
    bound = Bound(after, through, escaped(tenant))
    among = f"AND e.kind = ANY ({bound([int(kind) for kind in sorted(kinds)])}::smallint[])" if kinds else ""
    sql = f"""
        SELECT e.position, x.id, e.sequence, e.kind, e.step, e.data
        FROM events AS e JOIN executions AS x ON x.key = e.execution
        WHERE e.position > $1 AND e.position <= $2 AND x.tenant = $3 {among} {_conditions(where, bound)}
        ORDER BY e.position LIMIT {bound(limit)}
    """  # noqa: S608 — what callers gave is bound
    return sql, bound.values


_OPERATORS: Final[Mapping[Operator, str]] = {
    Operator.EQ: "=",
    Operator.NE: "IS DISTINCT FROM",  # holds for what is not set, as `filters.matches` has it
    Operator.LT: "<",
    Operator.GT: ">",
}
_COLUMNS: Final[Mapping[str, str]] = {
    "workflow": "x.workflow",
    "session_id": "x.session_id",
    "retry_of": "x.retry_of <> '' AND x.retry_of",  # as its index has it
    "create_time": "x.create_time",
    "end_time": "x.end_time",
}
_NO_STATE: Final = 0


def _conditions(where: Filter, bound: Bound) -> str:
    """SQL over `executions AS x`; everything that came from a caller is bound, never part of the text."""
    return " ".join(f"AND {_condition(term, bound)}" for term in where.terms)


def _condition(term: Term, bound: Bound) -> str:
    compare = _OPERATORS[term.operator]
    if term.field.startswith(LABEL_PREFIX):
        key = bound(escaped(term.field.removeprefix(LABEL_PREFIX)))
        return f'(x.labels ->> {key}::text) COLLATE "C" {compare} {bound(escaped(str(term.value)))}::text'
    if term.field == "state":
        return f"x.state {compare} {bound(STATE_NUMBERS.get(str(term.value), _NO_STATE))}::smallint"
    value = term.value if isinstance(term.value, int) else escaped(term.value)
    kind = "bigint" if isinstance(term.value, int) else "text"
    return f"{_COLUMNS[term.field]} {compare} {bound(value)}::{kind}"
