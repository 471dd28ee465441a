-- The tables of journal and vault in a schema of their own. `migrations.py` runs this on an empty schema; see there for
-- older ones.
-- Times are microseconds since the Unix epoch. States: 1 QUEUED, 2 RUNNING, 3 CANCELLING, 4 COMPLETED, 5 FAILED,
-- 6 CANCELLED (torana.v1.ExecutionState); up to 3 an execution is unfinished. Text of callers is escaped (`texts.py`),
-- and compared by code point, hence COLLATE "C".

-- One row. A position is (xid + position_base) * 2^20 + n for the n-th event of a transaction: in order of xid, so that
-- a reader who stops at the oldest open transaction misses nothing. `position_base` keeps positions rising when the
-- tables move to a cluster whose xids are lower. The counts are those of replicas that are gone.
CREATE TABLE journal (
    version integer NOT NULL,
    position_base bigint NOT NULL DEFAULT 0,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0
);

-- One row for each server that runs. Who writes to the journal updates its row in the same statement; so a row that is
-- gone fences its server, and `written` tells whether a group whose answer was lost was committed.
-- The counts are the executions that ended on this server. Ids are never used again.
CREATE TABLE replicas (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    written bigint NOT NULL DEFAULT 0,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- `key` stands for the id in other tables: small. Servers take numbers a block at a time.
-- `latest_sequence` is that of the last transition: the final one of a finished execution. Until then the last event
-- tells, so that appends leave this row alone.
-- `owner` is the replica that runs it; 0: released. One that is not among the replicas is dead.
CREATE SEQUENCE execution_keys INCREMENT BY 1000;
CREATE TABLE executions (
    key bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    revision text COLLATE "C" NOT NULL,
    state smallint NOT NULL,
    owner bigint NOT NULL,
    fence bigint NOT NULL,
    latest_sequence bigint NOT NULL,
    oldest_sequence bigint NOT NULL,
    create_time bigint NOT NULL,
    start_time bigint,
    end_time bigint,
    journal_format integer NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL,
    retry_of text COLLATE "C" NOT NULL,
    labels jsonb NOT NULL -- an object of strings
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX executions_id ON executions (id);
CREATE UNIQUE INDEX executions_idempotency ON executions (tenant, workflow, idempotency_key)
    WHERE idempotency_key <> '';
CREATE INDEX executions_tenant ON executions (tenant, id);
CREATE INDEX executions_workflow ON executions (tenant, workflow, id);
CREATE INDEX executions_state ON executions (tenant, state, id);
CREATE INDEX executions_retries ON executions (tenant, retry_of, id) WHERE retry_of <> '';
-- What recovery reads: its size is that of the work in flight, never of history.
CREATE INDEX executions_unfinished ON executions (owner, id) WHERE state <= 3;

-- `data` is the serialised torana.v1.ExecutionEvent; `kind` and `step` repeat what filters need.
CREATE TABLE events (
    position bigint PRIMARY KEY,
    execution bigint NOT NULL, -- executions.key
    sequence bigint NOT NULL,
    kind smallint NOT NULL,
    step text COLLATE "C" NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE events ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE UNIQUE INDEX events_sequence ON events (execution, sequence);

-- What was asked of an execution's owner, e.g. to cancel. Settled when the execution has ended.
CREATE TABLE commands (
    execution bigint NOT NULL, -- executions.key
    kind text NOT NULL, -- 'cancel'
    reason text NOT NULL,
    subject text NOT NULL,
    PRIMARY KEY (execution, kind)
);

CREATE TABLE definitions (
    revision text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    body text NOT NULL, -- canonical JSON
    requires text[] NOT NULL
);

-- The vault. A row of `secrets` outlives its secret: `latest` goes on counting, so that no version number is used twice.
CREATE TABLE secrets (
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    latest bigint NOT NULL,
    live boolean NOT NULL,
    create_time bigint NOT NULL,
    update_time bigint NOT NULL,
    expire_time bigint,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE secret_versions (
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    create_time bigint NOT NULL,
    expire_time bigint,
    envelope bytea NOT NULL, -- see vault/envelope.py
    PRIMARY KEY (tenant, name, version)
);

CREATE TABLE tenant_keys (
    tenant text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    wrapped bytea NOT NULL,
    PRIMARY KEY (tenant, version)
);

CREATE INDEX tenant_keys_by_key ON tenant_keys (key_id);

CREATE TABLE canaries (
    key_id text COLLATE "C" PRIMARY KEY,
    wrapped bytea NOT NULL
);

-- One row: how often any secret was changed.
CREATE TABLE secret_epoch (
    value bigint NOT NULL
);

CREATE TABLE secret_audit (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    action text NOT NULL,
    name text COLLATE "C" NOT NULL,
    version bigint,
    purpose text COLLATE "C" NOT NULL,
    outcome text NOT NULL
);

CREATE INDEX secret_audit_by_tenant ON secret_audit (tenant, sequence);
CREATE INDEX secret_audit_by_time ON secret_audit (at);

INSERT INTO secret_epoch (value) VALUES (0);
INSERT INTO journal (version) VALUES (1);
