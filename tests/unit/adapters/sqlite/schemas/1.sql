-- The journal's tables. `schema.py` runs this on an empty file and keeps the version in user_version.
-- Times are microseconds since the Unix epoch. States: 1 QUEUED, 2 RUNNING, 3 CANCELLING, 4 COMPLETED, 5 FAILED,
-- 6 CANCELLED (torana.v1.ExecutionState); up to 3 an execution is unfinished.

-- One row. `opening` counts the servers that had this journal open; it names the owner of an execution.
CREATE TABLE journal (
    opening INTEGER NOT NULL
) STRICT;

-- `key` stands for the id everywhere else: small, and in order of creation.
-- `latest_sequence` is that of the last transition: the final one of a finished execution. Until then the last event
-- tells, so that appends leave this row alone.
-- `owner` is the opening whose server runs it; 0: released. Only the current opening is alive.
CREATE TABLE executions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    workflow TEXT NOT NULL,
    revision TEXT NOT NULL,
    state INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    latest_sequence INTEGER NOT NULL,
    oldest_sequence INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    start_time INTEGER,
    end_time INTEGER,
    journal_format INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    retry_of TEXT NOT NULL,
    labels TEXT NOT NULL -- a JSON object of strings
) STRICT;

CREATE UNIQUE INDEX executions_id ON executions (id);
CREATE UNIQUE INDEX executions_idempotency ON executions (tenant, workflow, idempotency_key)
    WHERE idempotency_key <> '';
CREATE INDEX executions_tenant ON executions (tenant, id);
CREATE INDEX executions_workflow ON executions (tenant, workflow, id);
CREATE INDEX executions_state ON executions (tenant, state, id);
CREATE INDEX executions_retries ON executions (tenant, retry_of, id) WHERE retry_of <> '';
-- What recovery reads: its size is that of the work in flight, never of history.
CREATE INDEX executions_unfinished ON executions (owner, revision, journal_format) WHERE state <= 3;

-- Rows are only ever added at the end: `position` is the order of commits over all executions, and is never reused.
-- `data` is the serialised torana.v1.ExecutionEvent; `kind` and `step` repeat what filters need.
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    execution INTEGER NOT NULL, -- executions.key
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    step TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_sequence ON events (execution, sequence);

-- What was asked of an execution's owner, e.g. to cancel. Settled when the execution has ended.
CREATE TABLE commands (
    execution INTEGER NOT NULL, -- executions.key
    kind TEXT NOT NULL, -- 'cancel'
    reason TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (execution, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE definitions (
    revision TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    body TEXT NOT NULL, -- canonical JSON
    requires TEXT NOT NULL -- a JSON array of strings, sorted
) STRICT, WITHOUT ROWID;

-- Executions by state, kept by the triggers below in the commit that changes them.
CREATE TABLE counts (
    state INTEGER PRIMARY KEY,
    executions INTEGER NOT NULL
) STRICT;

CREATE TRIGGER executions_created AFTER INSERT ON executions BEGIN
    UPDATE counts SET executions = executions + 1 WHERE state = new.state;
END;

CREATE TRIGGER executions_moved AFTER UPDATE OF state ON executions WHEN old.state <> new.state BEGIN
    UPDATE counts SET executions = executions - 1 WHERE state = old.state;
    UPDATE counts SET executions = executions + 1 WHERE state = new.state;
END;

CREATE TRIGGER executions_removed AFTER DELETE ON executions BEGIN
    UPDATE counts SET executions = executions - 1 WHERE state = old.state;
END;

INSERT INTO journal (opening) VALUES (0);
INSERT INTO counts (state, executions) VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0);
