"""The vault's rows in one SQLite file of their own.

One connection, used by one thread, in WAL mode with `synchronous=FULL`: what returned survives a power cut.
Several processes may share the file. Migrations are numbered by their place in `_MIGRATIONS`;
`user_version` says how many were applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import apsw

from torana_server.core.clock import Micros
from torana_server.core.errors import Reason, UnavailableError, VaultError
from torana_server.vault import (
    Action,
    AuditRecord,
    NewVersion,
    Outcome,
    SecretInfo,
    SecretRow,
    TenantKeyRow,
    VersionInfo,
)

APPLICATION_ID = 0x746F7276  # "torv"
BUSY_TIMEOUT_MS = 5_000

_MIGRATIONS = (
    """
    -- A row outlives its secret: `latest` goes on counting, so that no version number is used twice.
    CREATE TABLE secret (
        tenant TEXT NOT NULL, name TEXT NOT NULL, latest INTEGER NOT NULL, live INTEGER NOT NULL,
        create_time INTEGER NOT NULL, update_time INTEGER NOT NULL, expire_time INTEGER,
        PRIMARY KEY (tenant, name)) STRICT, WITHOUT ROWID;
    CREATE TABLE secret_version (
        tenant TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, create_time INTEGER NOT NULL,
        expire_time INTEGER, envelope BLOB NOT NULL,
        PRIMARY KEY (tenant, name, version)) STRICT, WITHOUT ROWID;
    CREATE TABLE tenant_key (
        tenant TEXT NOT NULL, version INTEGER NOT NULL, key_id TEXT NOT NULL, wrapped BLOB NOT NULL,
        PRIMARY KEY (tenant, version)) STRICT, WITHOUT ROWID;
    CREATE INDEX tenant_key_by_key ON tenant_key (key_id);
    CREATE TABLE canary (key_id TEXT PRIMARY KEY, wrapped BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE epoch (row INTEGER PRIMARY KEY CHECK (row = 1), value INTEGER NOT NULL) STRICT;
    INSERT INTO epoch VALUES (1, 0);
    CREATE TABLE audit (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, tenant TEXT NOT NULL,
        subject TEXT NOT NULL, action TEXT NOT NULL, name TEXT NOT NULL, version INTEGER,
        purpose TEXT NOT NULL, outcome TEXT NOT NULL) STRICT;
    CREATE INDEX audit_by_tenant ON audit (tenant, sequence);
    CREATE INDEX audit_by_time ON audit (at);
    """,
)

_NEXT_VERSION = """
INSERT INTO secret VALUES (:tenant, :name, 1, 1, :at, :at, :expire_time)
ON CONFLICT (tenant, name) DO UPDATE SET
    latest = latest + 1, live = 1, update_time = :at, expire_time = :expire_time,
    create_time = CASE live WHEN 1 THEN create_time ELSE :at END
RETURNING name, latest, create_time, update_time, expire_time"""
_ADD_VERSION = "INSERT INTO secret_version VALUES (?, ?, ?, ?, ?, ?)"
_GET_VERSION = """
SELECT tenant, name, version, envelope, expire_time FROM secret_version
WHERE tenant = ? AND name = ? AND version = ?"""
_GET_LATEST = """
SELECT tenant, name, version, envelope, expire_time FROM secret_version
WHERE tenant = ? AND name = ? ORDER BY version DESC LIMIT 1"""
_VERSIONS = """
SELECT version, create_time, expire_time FROM secret_version
WHERE tenant = ? AND name = ? AND version < ? ORDER BY version DESC LIMIT ?"""
_DESCRIBE = """
SELECT name, latest, create_time, update_time, expire_time FROM secret
WHERE tenant = ? AND name = ? AND live = 1"""
_LIST = """
SELECT name, latest, create_time, update_time, expire_time FROM secret
WHERE tenant = ? AND name > ? AND live = 1 ORDER BY name LIMIT ?"""
_BURY = "UPDATE secret SET live = 0 WHERE tenant = ? AND name = ? AND live = 1 RETURNING latest"
_DELETE_VERSIONS = "DELETE FROM secret_version WHERE tenant = ? AND name = ?"
_ADVANCE_EPOCH = "UPDATE epoch SET value = value + 1"
_EPOCH = "SELECT value FROM epoch"
_TENANT_KEY = "SELECT tenant, version, key_id, wrapped FROM tenant_key WHERE tenant = ? AND version = ?"
_TENANT_KEY_LATEST = """
SELECT tenant, version, key_id, wrapped FROM tenant_key WHERE tenant = ? ORDER BY version DESC LIMIT 1"""
_ADD_TENANT_KEY = "INSERT INTO tenant_key VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_TENANT_KEYS_TO_REWRAP = """
SELECT tenant, version, key_id, wrapped FROM tenant_key
WHERE key_id <> ? AND (tenant, version) > (?, ?) ORDER BY tenant, version LIMIT ?"""
_REWRAP = """
UPDATE tenant_key SET key_id = ?, wrapped = ?
WHERE tenant = ? AND version = ? AND key_id = ? AND wrapped = ? RETURNING 1"""
_TENANT_KEYS_BY_KEY = "SELECT key_id, count(*) FROM tenant_key GROUP BY key_id"
_CANARY = "SELECT wrapped FROM canary WHERE key_id = ?"
_ADD_CANARY = "INSERT INTO canary VALUES (?, ?) ON CONFLICT DO NOTHING"
_ADD_AUDIT = """
INSERT INTO audit (at, tenant, subject, action, name, version, purpose, outcome)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_AUDIT = """
SELECT at, tenant, subject, action, name, version, purpose, outcome, sequence FROM audit
WHERE tenant = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?"""
_TRIM_AUDIT = "DELETE FROM audit WHERE at < ?"

_SEQUENCE_MAX = 2**63 - 1

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


class SqliteSecretStore:
    """Implements `SecretStore` over one file. Made by `open`."""

    def __init__(self, connection: apsw.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> SqliteSecretStore:
        """Opens the file, made with mode 0600 if it does not exist, and migrates it.

        Raises VaultError for a file that is not a vault or is of a later release, UnavailableError when it
        cannot be opened.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="torana-vault")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _open, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread)

    async def put(self, new: NewVersion, audit: AuditRecord) -> SecretInfo:
        return await self._run(_put, new, audit)

    async def get(self, tenant: str, name: str, version: int | None) -> SecretRow | None:
        if version is None:
            row = await self._run(_first, _GET_LATEST, (tenant, name))
        else:
            row = await self._run(_first, _GET_VERSION, (tenant, name, version))
        return SecretRow(*row) if row else None

    async def describe(self, tenant: str, name: str) -> SecretInfo | None:
        row = await self._run(_first, _DESCRIBE, (tenant, name))
        return SecretInfo(*row) if row else None

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[SecretInfo]:
        rows = await self._run(_all, _LIST, (tenant, after, limit))
        return [SecretInfo(*row) for row in rows]

    async def versions(self, tenant: str, name: str, before: int | None, limit: int) -> Sequence[VersionInfo]:
        bindings = (tenant, name, _SEQUENCE_MAX if before is None else before, limit)
        return [VersionInfo(*row) for row in await self._run(_all, _VERSIONS, bindings)]

    async def delete(self, tenant: str, name: str, audit: AuditRecord) -> bool:
        return await self._run(_delete, tenant, name, audit)

    async def tenant_key(self, tenant: str, version: int | None) -> TenantKeyRow | None:
        if version is None:
            row = await self._run(_first, _TENANT_KEY_LATEST, (tenant,))
        else:
            row = await self._run(_first, _TENANT_KEY, (tenant, version))
        return TenantKeyRow(*row) if row else None

    async def add_tenant_key(self, row: TenantKeyRow) -> TenantKeyRow:
        return await self._run(_add_tenant_key, row)

    async def tenant_keys_to_rewrap(
        self, key_id: str, after: tuple[str, int] | None, limit: int
    ) -> Sequence[TenantKeyRow]:
        rows = await self._run(_all, _TENANT_KEYS_TO_REWRAP, (key_id, *(after or ("", 0)), limit))
        return [TenantKeyRow(*row) for row in rows]

    async def rewrap_tenant_key(self, row: TenantKeyRow, new: TenantKeyRow, audit: AuditRecord) -> bool:
        return await self._run(_rewrap, row, new, audit)

    async def tenant_keys_by_key(self) -> Mapping[str, int]:
        return dict(await self._run(_all, _TENANT_KEYS_BY_KEY, ()))

    async def canary(self, key_id: str) -> bytes | None:
        row = await self._run(_first, _CANARY, (key_id,))
        return row[0] if row else None

    async def add_canary(self, key_id: str, wrapped: bytes) -> bytes:
        return await self._run(_add_canary, key_id, wrapped)

    async def epoch(self) -> int:
        row = await self._run(_first, _EPOCH, ())
        return int(row[0]) if row else 0

    def listen(self, changed: Callable[[], None]) -> None:
        """SQLite tells no other process of a change; the epoch does."""

    async def append_audit(self, records: Sequence[AuditRecord]) -> None:
        await self._run(_append_audit, records)

    async def audit(self, tenant: str, before: int | None, limit: int) -> Sequence[AuditRecord]:
        rows = await self._run(_all, _AUDIT, (tenant, _SEQUENCE_MAX if before is None else before, limit))
        return [_audit_record(row) for row in rows]

    async def trim_audit(self, before: Micros) -> int:
        return await self._run(_trim_audit, before)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    async def _run(
        self,
        work: Callable[Concatenate[apsw.Connection, _Args], _Result],
        *args: _Args.args,
        **kwargs: _Args.kwargs,
    ) -> _Result:
        if self._closed:
            raise UnavailableError("the vault's store is closed")

        def call() -> _Result:
            with _translated():
                return work(self._connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _open(path: Path) -> apsw.Connection:
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise UnavailableError(f"the vault's file {path.name!r} cannot be created: {error.strerror}") from None
    with _translated():
        connection = apsw.Connection(str(path))
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    with _transaction(connection):
        application = connection.pragma("application_id")
        applied = connection.pragma("user_version")
        if application != APPLICATION_ID and (application or applied or _first(connection, _ANY_TABLE, ())):
            raise VaultError(f"{path.name!r} is an SQLite file of something else than Torana's vault")
        if applied > len(_MIGRATIONS):
            raise VaultError(
                f"{path.name!r} was written by a later release (schema {applied}, this one knows up to "
                f"{len(_MIGRATIONS)}); run that release"
            )
        for script in _MIGRATIONS[applied:]:
            connection.execute(script)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", len(_MIGRATIONS))


_ANY_TABLE = "SELECT 1 FROM sqlite_schema LIMIT 1"


def _put(connection: apsw.Connection, new: NewVersion, audit: AuditRecord) -> SecretInfo:
    with _transaction(connection):
        row = _first(
            connection,
            _NEXT_VERSION,
            {"tenant": new.tenant, "name": new.name, "at": new.at, "expire_time": new.expire_time},
        )
        assert row is not None, "an upsert returns its row"
        info = SecretInfo(*row)
        envelope = new.seal(info.version)
        connection.execute(_ADD_VERSION, (new.tenant, new.name, info.version, new.at, new.expire_time, envelope))
        _changed(connection, dataclasses.replace(audit, version=info.version))
    return info


def _delete(connection: apsw.Connection, tenant: str, name: str, audit: AuditRecord) -> bool:
    with _transaction(connection):
        row = _first(connection, _BURY, (tenant, name))
        if row is None:
            return False
        connection.execute(_DELETE_VERSIONS, (tenant, name))
        _changed(connection, dataclasses.replace(audit, version=row[0]))
    return True


def _add_tenant_key(connection: apsw.Connection, row: TenantKeyRow) -> TenantKeyRow:
    with _transaction(connection):
        connection.execute(_ADD_TENANT_KEY, (row.tenant, row.version, row.key_id, row.wrapped))
        stored = _first(connection, _TENANT_KEY, (row.tenant, row.version))
    assert stored is not None, "the row was just added, or was there"
    return TenantKeyRow(*stored)


def _rewrap(connection: apsw.Connection, row: TenantKeyRow, new: TenantKeyRow, audit: AuditRecord) -> bool:
    with _transaction(connection):
        bindings = (new.key_id, new.wrapped, row.tenant, row.version, row.key_id, row.wrapped)
        replaced = _first(connection, _REWRAP, bindings) is not None
        if replaced:
            _add_audit(connection, audit)
    return replaced


def _add_canary(connection: apsw.Connection, key_id: str, wrapped: bytes) -> bytes:
    with _transaction(connection):
        connection.execute(_ADD_CANARY, (key_id, wrapped))
        stored = _first(connection, _CANARY, (key_id,))
    assert stored is not None, "the row was just added, or was there"
    return bytes(stored[0])


def _append_audit(connection: apsw.Connection, records: Sequence[AuditRecord]) -> None:
    with _transaction(connection):
        for record in records:
            _add_audit(connection, record)


def _trim_audit(connection: apsw.Connection, before: Micros) -> int:
    with _transaction(connection):
        connection.execute(_TRIM_AUDIT, (before,))
        return connection.changes()


def _changed(connection: apsw.Connection, audit: AuditRecord) -> None:
    connection.execute(_ADVANCE_EPOCH)
    _add_audit(connection, audit)


def _add_audit(connection: apsw.Connection, record: AuditRecord) -> None:
    connection.execute(
        _ADD_AUDIT,
        (
            record.at,
            record.tenant,
            record.subject,
            record.action.value,
            record.name,
            record.version,
            record.purpose,
            record.outcome.value,
        ),
    )


def _audit_record(row: tuple[Any, ...]) -> AuditRecord:
    at, tenant, subject, action, name, version, purpose, outcome, sequence = row
    return AuditRecord(at, tenant, subject, Action(action), name, version, purpose, Outcome(outcome), sequence)


def _first(connection: apsw.Connection, query: str, bindings: Any) -> tuple[Any, ...] | None:
    rows = _all(connection, query, bindings)
    return rows[0] if rows else None


def _all(connection: apsw.Connection, query: str, bindings: Any) -> Sequence[tuple[Any, ...]]:
    return connection.execute(query, bindings).fetchall()


@contextlib.contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    """Takes the write lock at once: one taken half-way could fail although nothing is wrong."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise VaultError(
            "the vault's file is damaged or is not an SQLite file; restore it from a backup",
            reason=Reason.SECRET_CORRUPT,
        ) from error
    except apsw.Error as error:
        raise UnavailableError(
            "the vault's store cannot answer; the server's log says why. A change may have happened",
            retry_after_s=1.0,
        ) from error
