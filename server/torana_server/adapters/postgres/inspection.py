"""Looking at the database of journal and vault without changing anything, whether servers have it or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from torana_server.adapters.postgres import secret_queries
from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.migrations import VERSION, version_of
from torana_server.adapters.postgres.opening import connected, refusal
from torana_server.adapters.postgres.texts import plain

_SERVER: Final = """
    SELECT clock_timestamp() AS now, pg_is_in_recovery() AS standby, current_setting('fsync') = 'on' AS fsync,
        current_setting('full_page_writes') = 'on' AS full_page_writes,
        current_setting('synchronous_standby_names') AS synchronous_standbys,
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS connections_left,
        to_regnamespace($1) IS NOT NULL OR has_database_privilege(current_database(), 'CREATE') AS may_begin
"""
_JOURNAL: Final = """
    SELECT (SELECT count(*) FROM replicas WHERE lease_until > clock_timestamp()) AS servers,
        (SELECT count(*) FROM executions WHERE state <= 3) AS unfinished,
        (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'executions'::regclass) AS executions
"""


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """`release` is PostgreSQL's, as text and as its first number. `now` is the database's clock and `asked` this
    machine's, at the same moment. `version` is that of the tables, 0 when there are none; then `may_begin` says whether
    this user can make them."""

    release: str
    release_major: int
    pooled: bool
    standby: bool
    fsync: bool
    full_page_writes: bool
    synchronous_standbys: str
    connections_left: int
    may_begin: bool
    now: datetime
    asked: datetime
    version: int
    known_version: int
    kept: Kept | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the tables hold. `executions` is PostgreSQL's estimate; of `servers` the leases stand. `tenant_keys`
    are how many each key wraps, `canaries` what each key wrapped at its first use."""

    servers: int
    unfinished: int
    executions: int
    secrets: int
    tenant_keys: Mapping[str, int]
    canaries: Mapping[str, bytes]


async def inspect_database(place: Place, clock: Any) -> DatabaseReport:
    """`clock` gives this machine's time. Raises UnavailableError that says why the database cannot be used."""
    try:
        place, connection = await connected(place)
        try:
            return await _report(place, connection, clock)
        finally:
            await connection.close()
    except Exception as error:
        raise refusal(error, place) from error


async def _report(place: Place, connection: Any, clock: Any) -> DatabaseReport:
    await connection.fetchval("SELECT 1")  # what the first call does besides takes no part in the comparison of clocks
    before = clock()
    server = await connection.fetchrow(_SERVER, f'"{place.schema}"')
    asked = before + (clock() - before) / 2
    release = connection.get_server_version()
    version = await version_of(connection, place.schema)
    return DatabaseReport(
        release=f"{release.major}.{release.minor}",
        release_major=release.major,
        pooled=place.pooled,
        asked=asked,
        version=version,
        known_version=VERSION,
        kept=await _kept(connection) if version == VERSION else None,
        **dict(server),
    )


async def _kept(connection: Any) -> Kept:
    keys = await connection.fetch(secret_queries.TENANT_KEYS_BY_KEY)
    canaries = await connection.fetch(secret_queries.CANARIES)
    return Kept(
        **dict(await connection.fetchrow(_JOURNAL)),
        secrets=await connection.fetchval(secret_queries.COUNT),
        tenant_keys={plain(key_id): count for key_id, count in keys},
        canaries={plain(key_id): wrapped for key_id, wrapped in canaries},
    )
