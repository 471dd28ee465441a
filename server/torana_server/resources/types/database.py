"""`database`: an asyncpg pool."""

from __future__ import annotations

import asyncio
import getpass
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import asyncpg
from pydantic import Field, model_validator

from torana_server.core.credentials import ALLOWED_HOSTS
from torana_server.core.errors import ResourceError
from torana_server.resources.acquisition import Acquisition
from torana_server.resources.borrowers import Borrower, Holdings, lease_ended
from torana_server.resources.credentials import credential_text, credentials_error, require_host
from torana_server.resources.resource_type import ResourceType, TypeConfig

Seconds = Annotated[float, Field(gt=0, le=86_400)]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

_DSN_OPTIONS = frozenset({"sslmode"})
"""Other options of an address name files and services of the server, which secrets have no say in."""
_RELEASE_TIMEOUT_S = 1.0


class DatabaseConfig(TypeConfig):
    host: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:-]+$", max_length=253)
    """Name or address. Default: that of the secret's `dsn`, else localhost. Unix sockets are not reachable: their
    authentication would take every caller for the server's own user."""
    port: int | None = Field(default=None, ge=1, le=65_535)
    """Default: that of the `dsn`, else 5432."""
    database: str | None = Field(default=None, min_length=1, max_length=63)
    """Default: that of the `dsn`, else the name of the user."""
    min_size: int = Field(default=1, ge=0, le=1_000)
    """Connections kept open."""
    max_size: int = Field(default=10, ge=1, le=1_000)
    """Connections open at once."""
    max_queries: int = Field(default=50_000, ge=1)
    """A connection is replaced after this many."""
    max_inactive_connection_lifetime: float = Field(default=300.0, ge=0)
    """Seconds; 0 keeps unused connections."""
    timeout: Seconds = 10.0
    """Seconds to connect."""
    command_timeout: Seconds | None = None
    """Seconds a statement may take, unless the call says otherwise."""
    acquire_timeout: Seconds = 10.0
    """Seconds to wait for a connection of an exhausted pool."""
    statement_cache_size: int = Field(default=100, ge=0)
    """Prepared statements a connection; 0 for poolers such as PgBouncer in transaction mode."""
    server_settings: dict[str, str] = Field(default_factory=dict)
    """Run-time parameters of each session, such as `application_name`."""
    ssl: bool | SslMode = "prefer"
    """true and "verify-full" check the certificate and the host name."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> DatabaseConfig:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size ({self.min_size}) must not be above max_size ({self.max_size})")
        return self


@dataclass(slots=True, eq=False)
class DatabasePool:
    """`connect` opens one connection outside the pool."""

    connections: asyncpg.Pool[Any] = field(repr=False)
    connect: Callable[[], Awaitable[asyncpg.Connection[Any]]] = field(repr=False)
    max_size: int
    acquire_timeout_s: float
    holdings: Holdings = field(default_factory=Holdings)

    @property
    def exhausted(self) -> bool:
        return len(self.holdings) >= self.max_size


class DatabaseType(ResourceType[DatabaseConfig, DatabasePool]):
    name = "database"
    description = "A pool of PostgreSQL connections."
    config_model = DatabaseConfig
    credential_fields = frozenset({"user", "password", "dsn", ALLOWED_HOSTS})

    async def open(self, config: DatabaseConfig, credentials: Mapping[str, object]) -> DatabasePool:
        arguments = connect_arguments(config, credentials)
        connections = asyncpg.create_pool(
            **arguments,
            min_size=config.min_size,
            max_size=config.max_size,
            max_queries=config.max_queries,
            max_inactive_connection_lifetime=config.max_inactive_connection_lifetime,
        )
        await connections
        pool = DatabasePool(connections, lambda: asyncpg.connect(**arguments), config.max_size, config.acquire_timeout)
        if config.min_size == 0:
            await self._prove(pool)
        return pool

    async def check(self, pool: DatabasePool) -> None:
        if not pool.exhausted:
            await pool.connections.fetchval("SELECT 1")
            return
        connection = await pool.connect()
        try:
            await connection.fetchval("SELECT 1")
        finally:
            await connection.close()

    async def close(self, pool: DatabasePool) -> None:
        await pool.connections.close()

    def describe(self, config: DatabaseConfig) -> str:
        host = config.host or "localhost"
        return f"{f'[{host}]' if ':' in host else host}:{config.port or 5432}/{config.database or ''}"

    def stats(self, pool: DatabasePool) -> Mapping[str, int]:
        return {
            "size": pool.connections.get_size(),
            "free": pool.connections.get_idle_size(),
            "max_size": pool.max_size,
            "in_use": len(pool.holdings),
        }

    def lend(self, pool: DatabasePool, borrower: Borrower) -> Database:
        return Database(pool, borrower)

    async def take_back(self, pool: DatabasePool, lent: Database) -> None:
        await lent._end()

    async def _prove(self, pool: DatabasePool) -> None:
        try:
            await self.check(pool)
        except BaseException:
            pool.connections.terminate()
            raise


class Database:
    """What a step gets: the shared pool, seen by one attempt.

    Waiting for a connection ends after `acquire_timeout` with RESOURCE_POOL_EXHAUSTED, which says who holds them.
    Errors of the driver (`asyncpg.PostgresError` …) reach the step as they are. Connections that the step does not
    give back are taken back when it ends.
    """

    def __init__(self, pool: DatabasePool, borrower: Borrower) -> None:
        self._pool = pool
        self._borrower = borrower
        self._mine: set[Any] = set()
        self._ended = False

    @property
    def size(self) -> int:
        """Open connections of the shared pool."""
        return self._pool.connections.get_size()

    @property
    def freesize(self) -> int:
        """Open connections that nobody uses now."""
        return self._pool.connections.get_idle_size()

    def acquire(self, *, timeout: float | None = None) -> Acquisition[Any]:
        """A connection, by `async with` or by `await` and `release`. `timeout` in seconds replaces
        `acquire_timeout`."""
        return Acquisition(lambda: self._take(timeout), self.release)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        try:
            await self._pool.connections.release(connection, timeout=timeout)
        finally:
            self._mine.discard(connection)
            self._pool.holdings.remove(connection)

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Any]:
        """A connection within a transaction: committed at the end, rolled back on an error. `options` are those of
        asyncpg's `Connection.transaction`."""
        async with self.acquire() as connection, connection.transaction(**options):
            yield connection

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args, **options)

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        async with self.acquire() as connection:
            return str(await connection.execute(query, *args, **options))

    async def executemany(self, command: str, args: Iterable[Any], **options: Any) -> None:
        async with self.acquire() as connection:
            await connection.executemany(command, args, **options)

    def __getattr__(self, name: str) -> Any:
        if name in _ON_A_CONNECTION:
            return _on_a_connection(self, name)
        if name in _OF_THE_POOL:
            return getattr(self._pool.connections, name)
        raise AttributeError(f"a database has no '{name}' (a step cannot close or reconfigure a shared pool)")

    def __repr__(self) -> str:
        return f"<Database '{self._borrower.resource}' size={self.size} free={self.freesize}>"

    async def _take(self, timeout: float | None) -> Any:
        if self._ended:
            raise lease_ended(self._borrower)
        limit = self._pool.acquire_timeout_s if timeout is None else timeout
        try:
            connection = await self._pool.connections.acquire(timeout=limit)
        except TimeoutError:
            raise self._timed_out(limit) from None
        if self._ended:
            await self._pool.connections.release(connection)
            raise lease_ended(self._borrower)
        self._mine.add(connection)
        self._pool.holdings.add(connection, self._borrower)
        return connection

    def _timed_out(self, waited_s: float) -> ResourceError:
        if self._pool.exhausted:
            return self._pool.holdings.exhausted(self._borrower, size=self._pool.max_size, waited_s=waited_s)
        return ResourceError(
            f"Resource '{self._borrower.resource}': a new connection was not open within {waited_s:g} s.",
            metadata={"resource": self._borrower.resource},
        )

    async def _end(self) -> None:
        self._ended = True
        for connection in tuple(self._mine):
            try:
                await self.release(connection, timeout=_RELEASE_TIMEOUT_S)
            except (
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                OSError,
                TimeoutError,
                asyncio.CancelledError,
            ) as error:
                connection.terminate()  # in the middle of a statement: only closing it gives its place in the pool back
                if isinstance(error, asyncio.CancelledError):
                    raise


_ON_A_CONNECTION = frozenset(
    {"copy_from_query", "copy_from_table", "copy_records_to_table", "copy_to_table", "fetchmany"}
)
_OF_THE_POOL = frozenset({"get_idle_size", "get_max_size", "get_min_size", "get_size", "is_closing"})


def _on_a_connection(database: Database, method: str) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any, **options: Any) -> Any:
        async with database.acquire() as connection:
            return await getattr(connection, method)(*args, **options)

    return call


def connect_arguments(config: DatabaseConfig, credentials: Mapping[str, object]) -> dict[str, Any]:
    """Everything is said, so that asyncpg looks nothing up in the server's environment or home directory.

    The password is a function: the driver keeps its arguments where a repr would show them.
    """
    login = _login(credentials)
    password = login.password
    mode = login.ssl if "ssl" not in config.model_fields_set and login.ssl else config.ssl
    host, port = config.host or login.host or "localhost", config.port or login.port or 5432
    require_host(credentials, host, port)
    return {
        "host": host,
        "port": port,
        "database": config.database or login.database or login.user,
        "user": login.user,
        "password": lambda: password,
        "timeout": config.timeout,
        "command_timeout": config.command_timeout,
        "statement_cache_size": config.statement_cache_size,
        "server_settings": {"application_name": "torana", **config.server_settings},
        "ssl": _ssl(mode),
    }


@dataclass(frozen=True, slots=True)
class _Login:
    user: str
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    database: str = ""
    ssl: str = ""


def _login(credentials: Mapping[str, object]) -> _Login:
    if not credentials:
        return _Login(user=getpass.getuser())
    if "dsn" in credentials:
        return _dsn_login(credential_text(credentials, "dsn"))
    user = credential_text(credentials, "user")
    if not user:
        raise credentials_error("the secret of a database needs 'user' and 'password', or 'dsn'")
    return _Login(user, credential_text(credentials, "password"))


def _dsn_login(dsn: str) -> _Login:
    try:
        address = urlsplit(dsn)
        port = address.port
    except ValueError:
        raise _dsn_error("is not an address") from None
    options = dict(parse_qsl(address.query))
    if address.scheme not in {"postgresql", "postgres"} or not address.hostname or not address.username:
        raise _dsn_error("has not the form postgresql://user:password@host:port/database")
    if options.keys() - _DSN_OPTIONS:
        raise _dsn_error(f"may have the option sslmode only, not {', '.join(sorted(options.keys() - _DSN_OPTIONS))}")
    return _Login(
        user=unquote(address.username),
        password=unquote(address.password or ""),
        host=address.hostname,
        port=port,
        database=_database(address),
        ssl=options.get("sslmode", ""),
    )


def _database(address: SplitResult) -> str:
    return unquote(address.path.removeprefix("/"))


def _dsn_error(problem: str) -> ResourceError:
    return credentials_error(f"'dsn' in the secret {problem}")


def _ssl(mode: bool | str) -> ssl.SSLContext | str | bool:
    if mode is True or mode in {"verify-full", "verify-ca"}:
        context = ssl.create_default_context()
        context.check_hostname = mode != "verify-ca"
        return context
    return mode
