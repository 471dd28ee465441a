"""The vault's rows beside the journal's, for several servers.

A change and the notification that tells other servers of it are one transaction. Secrets change seldom; that PostgreSQL
lets transactions that notify commit one at a time does not matter here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

import asyncpg

from torana_server.adapters.postgres import secret_queries as queries
from torana_server.adapters.postgres.connection import Place, is_lost
from torana_server.adapters.postgres.opening import prepare
from torana_server.adapters.postgres.texts import escaped, plain
from torana_server.core import logs
from torana_server.core.clock import Micros
from torana_server.core.errors import UnavailableError
from torana_server.vault import AuditRecord, NewVersion, SecretInfo, SecretRow, TenantKeyRow, VersionInfo

APPLICATION: Final = "torana vault"
CHANNEL: Final = "torana_vault"
CONNECTIONS_MAX: Final = 4
LISTEN_AGAIN_S: Final = 1.0
RETRY_AFTER_S: Final = 1.0
_SEQUENCE_MAX: Final = 2**63 - 1

_log = logs.logger("vault")


class PostgresSecretStore:
    """Implements `SecretStore`. Made by `open`.

    Needs a connection for notifications, and up to CONNECTIONS_MAX for the rest.
    """

    def __init__(self, place: Place, pool: asyncpg.Pool) -> None:
        self._place = place
        self._pool = pool
        self._listening: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, place: Place, wait_s: float = 0.0) -> Self:
        """Raises UnavailableError for a database that cannot be used or does not answer within `wait_s`."""
        place = await prepare(place, wait_s)
        with _translated():
            pool = await asyncpg.create_pool(min_size=1, max_size=CONNECTIONS_MAX, **place.pool_options(APPLICATION))
        return cls(place, pool)

    def listen(self, changed: Callable[[], None]) -> None:
        if not self._place.pooled:
            self._listening = asyncio.create_task(self._listen_for_ever(changed), name="vault notices")

    async def put(self, new: NewVersion, audit: AuditRecord) -> SecretInfo:
        place = escaped(new.tenant), escaped(new.name)
        async with self._transaction() as connection:
            info = queries.info(await connection.fetchrow(queries.NEXT_VERSION, *place, new.at, new.expire_time))
            row = info.version, new.at, new.expire_time, new.seal(info.version)
            await connection.execute(queries.ADD_VERSION, *place, *row)
            await _changed(connection, dataclasses.replace(audit, version=info.version))
        return info

    async def get(self, tenant: str, name: str, version: int | None) -> SecretRow | None:
        place = escaped(tenant), escaped(name)
        if version is None:
            rows = await self._fetch(queries.GET_LATEST, *place)
        else:
            rows = await self._fetch(queries.GET_VERSION, *place, version)
        return queries.secret(rows[0]) if rows else None

    async def describe(self, tenant: str, name: str) -> SecretInfo | None:
        rows = await self._fetch(queries.DESCRIBE, escaped(tenant), escaped(name))
        return queries.info(rows[0]) if rows else None

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[SecretInfo]:
        return [queries.info(row) for row in await self._fetch(queries.LIST, escaped(tenant), escaped(after), limit)]

    async def versions(self, tenant: str, name: str, before: int | None, limit: int) -> Sequence[VersionInfo]:
        below = _SEQUENCE_MAX if before is None else before
        rows = await self._fetch(queries.VERSIONS, escaped(tenant), escaped(name), below, limit)
        return [VersionInfo(*row) for row in rows]

    async def delete(self, tenant: str, name: str, audit: AuditRecord) -> bool:
        place = escaped(tenant), escaped(name)
        async with self._transaction() as connection:
            latest = await connection.fetchval(queries.BURY, *place)
            if latest is not None:
                await connection.execute(queries.DELETE_VERSIONS, *place)
                await _changed(connection, dataclasses.replace(audit, version=latest))
        return latest is not None

    async def tenant_key(self, tenant: str, version: int | None) -> TenantKeyRow | None:
        if version is None:
            rows = await self._fetch(queries.TENANT_KEY_LATEST, escaped(tenant))
        else:
            rows = await self._fetch(queries.TENANT_KEY_VERSION, escaped(tenant), version)
        return queries.tenant_key(rows[0]) if rows else None

    async def add_tenant_key(self, row: TenantKeyRow) -> TenantKeyRow:
        async with self._transaction() as connection:
            await connection.execute(queries.ADD_TENANT_KEY, *_tenant_key_values(row))
            stored = await connection.fetchrow(queries.TENANT_KEY_VERSION, escaped(row.tenant), row.version)
        return queries.tenant_key(stored)

    async def tenant_keys_to_rewrap(
        self, key_id: str, after: tuple[str, int] | None, limit: int
    ) -> Sequence[TenantKeyRow]:
        tenant, version = after or ("", 0)
        rows = await self._fetch(queries.TENANT_KEYS_TO_REWRAP, escaped(key_id), escaped(tenant), version, limit)
        return [queries.tenant_key(row) for row in rows]

    async def rewrap_tenant_key(self, row: TenantKeyRow, new: TenantKeyRow, audit: AuditRecord) -> bool:
        async with self._transaction() as connection:
            values = *_tenant_key_values(row), escaped(new.key_id), new.wrapped
            replaced = await connection.fetchval(queries.REWRAP, *values) is not None
            if replaced:
                await connection.execute(queries.ADD_AUDIT, *queries.audit_columns([audit]))
        return replaced

    async def tenant_keys_by_key(self) -> Mapping[str, int]:
        return {plain(key_id): count for key_id, count in await self._fetch(queries.TENANT_KEYS_BY_KEY)}

    async def canary(self, key_id: str) -> bytes | None:
        rows = await self._fetch(queries.CANARY, escaped(key_id))
        return rows[0][0] if rows else None

    async def add_canary(self, key_id: str, wrapped: bytes) -> bytes:
        async with self._transaction() as connection:
            await connection.execute(queries.ADD_CANARY, escaped(key_id), wrapped)
            return bytes(await connection.fetchval(queries.CANARY, escaped(key_id)))

    async def epoch(self) -> int:
        ((epoch,),) = await self._fetch(queries.EPOCH)
        return int(epoch)

    async def append_audit(self, records: Sequence[AuditRecord]) -> None:
        async with self._transaction() as connection:
            await connection.execute(queries.ADD_AUDIT, *queries.audit_columns(records))

    async def audit(self, tenant: str, before: int | None, limit: int) -> Sequence[AuditRecord]:
        rows = await self._fetch(queries.AUDIT, escaped(tenant), _SEQUENCE_MAX if before is None else before, limit)
        return [queries.audit_record(row) for row in rows]

    async def trim_audit(self, before: Micros) -> int:
        ((count,),) = await self._fetch(queries.TRIM_AUDIT, before)
        return int(count)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        try:
            async with asyncio.timeout(RETRY_AFTER_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _fetch(self, query: str, *values: object) -> Sequence[Any]:
        self._check_open()
        with _translated():
            rows: Sequence[Any] = await self._pool.fetch(query, *values)
        return rows

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        self._check_open()
        with _translated():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the vault's store is closed")

    async def _listen_for_ever(self, changed: Callable[[], None]) -> None:
        while True:
            try:
                await self._listen(changed)
            except Exception as error:  # noqa: BLE001 — hints only, tried again: the epoch is polled behind them
                _log.info("notices of changed secrets wait: %s", type(error).__name__)
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def _listen(self, changed: Callable[[], None]) -> None:
        """Until the connection is lost."""
        connection = await asyncpg.connect(**self._place.options(APPLICATION))
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: changed())
            changed()  # what was told before is not heard
            await lost.wait()
        finally:
            connection.terminate()


async def _changed(connection: Any, audit: AuditRecord) -> None:
    await connection.execute(queries.ADVANCE_EPOCH)
    await connection.execute(queries.ADD_AUDIT, *queries.audit_columns([audit]))
    await connection.execute("SELECT pg_notify($1, '')", CHANNEL)


def _tenant_key_values(row: TenantKeyRow) -> tuple[object, ...]:
    return escaped(row.tenant), row.version, escaped(row.key_id), row.wrapped


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> UnavailableError:
    """What a caller is told; PostgreSQL's own words go to the log."""
    if is_lost(error):
        _log.warning("the vault's database does not answer: %s", type(error).__name__)
        told = "the vault's database does not answer. A change may have happened"
    else:
        _log.error("vault error", exc_info=error)
        told = "the vault's store cannot answer; the server's log says why. A change may have happened"
    return UnavailableError(told, retry_after_s=RETRY_AFTER_S)
