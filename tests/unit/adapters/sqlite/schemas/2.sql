-- The tables as version 2 had them. Never changed: journals of this version exist.
CREATE TABLE journal (
    opening INTEGER NOT NULL
) STRICT;

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
    labels TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX executions_id ON executions (id);
CREATE UNIQUE INDEX executions_idempotency ON executions (tenant, workflow, idempotency_key)
    WHERE idempotency_key <> '';
CREATE INDEX executions_tenant ON executions (tenant, id);
CREATE INDEX executions_workflow ON executions (tenant, workflow, id);
CREATE INDEX executions_state ON executions (tenant, state, id);
CREATE INDEX executions_retries ON executions (tenant, retry_of, id) WHERE retry_of <> '';
CREATE INDEX executions_unfinished ON executions (owner, revision, journal_format) WHERE state <= 3;

CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    execution INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    step TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_sequence ON events (execution, sequence);

CREATE TABLE commands (
    execution INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (execution, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE definitions (
    revision TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    requires TEXT NOT NULL
) STRICT, WITHOUT ROWID;

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
