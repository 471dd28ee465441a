"""The database at the start: waited for, looked at, and given its tables. What is wrong is said to the operator."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from typing import Any, Final

import asyncpg

from torana_server.adapters.postgres.connection import Place, is_lost
from torana_server.adapters.postgres.migrations import migrate
from torana_server.core import logs
from torana_server.core.errors import ToranaError, UnavailableError

VERSION_MIN: Final = 14
AGAIN_S: Final = 0.5
SAY_AGAIN_S: Final = 5.0
_PASSING: Final = (asyncpg.TooManyConnectionsError, asyncpg.CannotConnectNowError)

_log = logs.logger("journal")


async def prepare(place: Place, wait_s: float = 0.0) -> Place:
    """Waits up to `wait_s` seconds for the database to answer, then brings its tables up to date.

    Returns the place with `pooled` as it was found. Raises UnavailableError that says what to do: at once when the
    database refuses, after the wait when it does not answer.
    """
    loop = asyncio.get_running_loop()
    deadline, said = loop.time() + wait_s, 0.0
    while True:
        try:
            return await _prepared(place)
        except ToranaError:
            raise
        except Exception as error:
            if not _may_pass(error) or loop.time() + AGAIN_S > deadline:
                raise refusal(error, place) from error
            if loop.time() >= said:
                _log.warning("waiting for the database at %s: %s", place, reason(error))
                said = loop.time() + SAY_AGAIN_S
            await asyncio.sleep(AGAIN_S)


async def _prepared(place: Place) -> Place:
    place, connection = await connected(place)
    try:
        check_version(connection)
        await migrate(connection, place.schema)
    finally:
        await connection.close()
    return place


async def connected(place: Place) -> tuple[Place, Any]:
    """A connection, which may turn out to lead through a proxy that pools transactions: such a one refuses settings, or
    leaves them out. Raises what asyncpg raises."""
    direct = dataclasses.replace(place, pooled=False)
    try:
        connection = await asyncpg.connect(**direct.options())
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" not in str(error):
            raise
    else:
        if await connection.fetchval("SELECT current_setting('search_path')") == direct.settings()["search_path"]:
            return direct, connection
        await connection.close()
    pooled = dataclasses.replace(place, pooled=True)
    _log.info("a proxy stands before the database at %s; other servers' news come by polling", place)
    return pooled, await asyncpg.connect(**pooled.options())


def check_version(connection: Any) -> None:
    """Raises UnavailableError for a PostgreSQL that is too old."""
    version = connection.get_server_version()
    if version.major < VERSION_MIN:
        raise UnavailableError(
            f"the database is PostgreSQL {version.major}.{version.minor}; the journal needs {VERSION_MIN} or later"
        )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, (ssl.SSLError, asyncpg.ClientConfigurationError)):
        return False
    return is_lost(error) or isinstance(error, _PASSING)


def refusal(error: Exception, place: Place) -> ToranaError:
    """For operators; never with the password, and not in the driver's words."""
    if isinstance(error, ToranaError):
        return error
    return UnavailableError(f"the database of the journal at {place} cannot be used: {reason(error)}")


def reason(error: Exception) -> str:
    match error:
        case ssl.SSLError():
            return f"TLS failed ({error.reason or type(error).__name__}); see sslmode and sslrootcert of its address"
        case asyncpg.ClientConfigurationError():
            return "its address is not valid; write postgresql://USER@HOST:5432/DATABASE"
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return "it refuses the user or the password; see journal_password, PGPASSWORD and its pg_hba.conf"
        case asyncpg.InvalidCatalogNameError():
            return "it has no such database; make it with CREATE DATABASE"
        case asyncpg.InsufficientPrivilegeError():
            return "the user lacks a privilege; docs/postgresql.md lists the grants"
        case asyncpg.TooManyConnectionsError():
            return "it has no connection left; raise max_connections, or lower journal_readers_max"
        case asyncpg.CannotConnectNowError():
            return "it is starting up or shutting down"
        case socket.gaierror():
            return "its host name is not known"
        case ConnectionRefusedError():
            return "nothing listens there"
        case TimeoutError():
            return "it does not answer"
        case OSError() if "SSL" in str(error):
            return "it does not speak TLS; see sslmode of its address"
        case OSError():
            return f"it cannot be reached ({error.strerror or type(error).__name__})"
        case asyncpg.PostgresError():
            return f"it answered {type(error).__name__} (SQLSTATE {error.sqlstate})"
        case _:
            return f"the connection failed ({type(error).__name__})"
