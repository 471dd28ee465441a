"""`cache`: `redis.asyncio.Redis`, for Redis and Valkey."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import redis.asyncio
import redis.exceptions
from pydantic import Field
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from torana_server.core.credentials import ALLOWED_HOSTS
from torana_server.resources.borrowers import Borrower, Holdings, lease_ended
from torana_server.resources.credentials import credential_text, require_host
from torana_server.resources.resource_type import ResourceType, TypeConfig

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class CacheConfig(TypeConfig):
    host: str = Field(default="localhost", pattern=r"^[A-Za-z0-9_.:-]+$", max_length=253)
    """Name or address."""
    port: int = Field(default=6379, ge=1, le=65_535)
    db: int = Field(default=0, ge=0, le=65_535)
    """Number of the logical database."""
    decode_responses: bool = False
    """Whether replies are str instead of bytes."""
    max_connections: int = Field(default=50, ge=1, le=10_000)
    """Connections open at once."""
    ssl: bool = False
    """TLS, with the certificate and the host name checked."""
    timeout: Seconds = 30.0
    """Seconds to wait for a reply."""
    connect_timeout: Seconds = 10.0
    """Seconds to connect."""
    acquire_timeout: Seconds = 10.0
    """Seconds to wait for a connection of an exhausted pool."""


@dataclass(slots=True, eq=False)
class CachePool:
    client: LeasedRedis = field(repr=False)
    connections: redis.asyncio.BlockingConnectionPool = field(repr=False)
    max_connections: int
    acquire_timeout_s: float
    holdings: Holdings = field(default_factory=Holdings)


class CacheType(ResourceType[CacheConfig, CachePool]):
    name = "cache"
    description = "A Redis or Valkey client."
    config_model = CacheConfig
    credential_fields = frozenset({"username", "password", ALLOWED_HOSTS})

    async def open(self, config: CacheConfig, credentials: Mapping[str, object]) -> CachePool:
        require_host(credentials, config.host, config.port)
        connections = redis.asyncio.BlockingConnectionPool(
            max_connections=config.max_connections,
            timeout=config.acquire_timeout,
            connection_class=redis.asyncio.SSLConnection if config.ssl else redis.asyncio.Connection,
            host=config.host,
            port=config.port,
            db=config.db,
            decode_responses=config.decode_responses,
            socket_timeout=config.timeout,
            socket_connect_timeout=config.connect_timeout,
            credential_provider=_Login(credentials) if credentials else None,
            retry=Retry(NoBackoff(), 1),
            protocol=2,
        )
        client = LeasedRedis(connection_pool=connections)
        pool = CachePool(client, connections, config.max_connections, config.acquire_timeout)
        try:
            await self.check(pool)
        except BaseException:
            await connections.aclose()
            raise
        return pool

    async def check(self, pool: CachePool) -> None:
        if len(pool.holdings) < pool.max_connections:
            await pool.client.execute_command("PING")  # type: ignore[no-untyped-call] # redis types it in part
            return
        connection = pool.connections.make_connection()
        try:
            await connection.connect()
        finally:
            await connection.disconnect()

    async def close(self, pool: CachePool) -> None:
        await pool.connections.aclose()

    def describe(self, config: CacheConfig) -> str:
        host = f"[{config.host}]" if ":" in config.host else config.host
        return f"{host}:{config.port}/{config.db}"

    def stats(self, pool: CachePool) -> Mapping[str, int]:
        return {"max_size": pool.max_connections, "in_use": len(pool.holdings)}

    def lend(self, pool: CachePool, borrower: Borrower) -> LeasedRedis:
        client = copy.copy(pool.client)
        client.connection_pool = LeasedConnections(pool, borrower)  # type: ignore[assignment] # the part clients use
        return client

    async def take_back(self, pool: CachePool, lent: LeasedRedis) -> None:
        leased: Any = lent.connection_pool
        await leased.end()


class LeasedRedis(redis.asyncio.Redis):
    """What a step gets: the shared client, with connections as one attempt sees them."""

    def pubsub(self, **options: Any) -> PubSub:
        subscription = super().pubsub(**options)
        leased: Any = self.connection_pool
        leased.subscriptions.add(subscription)
        return subscription


class LeasedConnections:
    """A connection pool as one attempt sees it: exhaustion says who holds the connections, and what the attempt kept
    (a subscription, a pipeline) is closed with it. Everything else is the shared pool's."""

    def __init__(self, pool: CachePool, borrower: Borrower) -> None:
        self._pool = pool
        self._borrower = borrower
        self._mine: set[Any] = set()
        self._ended = False
        self.subscriptions: weakref.WeakSet[PubSub] = weakref.WeakSet()

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        if self._ended:
            raise lease_ended(self._borrower)
        try:
            connection = await self._pool.connections.get_connection()
        except redis.exceptions.ConnectionError:
            if len(self._pool.holdings) < self._pool.max_connections:
                raise
            raise self._pool.holdings.exhausted(
                self._borrower, size=self._pool.max_connections, waited_s=self._pool.acquire_timeout_s
            ) from None
        self._mine.add(connection)
        self._pool.holdings.add(connection, self._borrower)
        return connection

    async def release(self, connection: Any) -> None:
        self._mine.discard(connection)
        self._pool.holdings.remove(connection)
        await self._pool.connections.release(connection)

    async def end(self) -> None:
        self._ended = True
        for subscription in tuple(self.subscriptions):
            await subscription.aclose()  # or its connection would subscribe again
        for connection in tuple(self._mine):
            await connection.disconnect(nowait=True)
            await self.release(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Closes what this attempt holds; the shared connections stay."""
        for connection in tuple(self._mine):
            await connection.disconnect()

    async def aclose(self) -> None:
        await self.disconnect()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool.connections, name)

    def __repr__(self) -> str:
        return f"<connections of '{self._borrower.resource}'>"


class _Login(CredentialProvider):
    """Keeps the password out of the arguments that the driver's reprs show."""

    def __init__(self, credentials: Mapping[str, object]) -> None:
        self._username = credential_text(credentials, "username")
        self._password = credential_text(credentials, "password")

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return (self._username, self._password) if self._username else (self._password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()

    def __repr__(self) -> str:
        return "[redacted]"
