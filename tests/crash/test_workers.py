"""`torana serve --workers`: several processes on one port, and the one that looks after them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

import torana
from integration.conftest import PostgresServer, postgres_server, temporary_root

__all__ = ["postgres_server", "temporary_root"]

KEYS = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
WORKFLOW = """
name: greet
steps:
  - name: greet
    type: compose
    config: {value: hello}
"""
TORANA = (sys.executable, "-m", "torana_server.cli")
HASTY = torana.ReconnectPolicy(initial_s=0.02, max_s=0.2)


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    return postgres_server.database("blank").url


@asynccontextmanager
async def workers(database: str, folder: Path, count: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process that looks after them, and their address."""
    (folder / "greet.yaml").write_text(WORKFLOW)
    process = await asyncio.create_subprocess_exec(
        *TORANA,
        *("serve", "--workers", str(count), "--workflows", str(folder), "--address", "127.0.0.1:0"),
        env={**os.environ, "TORANA_JOURNAL": database, "TORANA_VAULT_KEYS": KEYS, "TORANA_LEASE_S": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        greeting = (await process.stdout.readline()).decode()
        found = re.search(r"127\.0\.0\.1:\d+", greeting)
        assert found is not None, f"no address in {greeting!r}"
        yield process, found[0]
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


@pytest.mark.slow
async def test_workers_share_a_port_one_that_dies_is_replaced_and_sigterm_drains_all(
    database: str, tmp_path: Path
) -> None:
    async with workers(database, tmp_path, 2) as (process, address):
        family = psutil.Process(process.pid)
        while len(at_work(family, address)) < 2:  # noqa: ASYNC110 — the kernel tells nobody
            await asyncio.sleep(0.05)
        before = family.children()
        before[0].send_signal(signal.SIGKILL)
        async with torana.Client(address, reconnect=HASTY) as client:
            for _ in range(20):
                assert (await client.execute_workflow("greet")).is_success
        while len(at_work(family, address)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert {child.pid for child in family.children()} - {child.pid for child in before}
        process.terminate()
        assert await process.wait() == 0
        assert not any(child.is_running() for child in before)


def at_work(family: psutil.Process, address: str) -> list[psutil.Process]:
    """Children that listen on the port."""
    port = int(address.rpartition(":")[2])
    return [
        child
        for child in family.children()
        if any(link.laddr.port == port and link.status == psutil.CONN_LISTEN for link in child.net_connections("tcp"))
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--journal", "sqlite"), "postgresql://"),
        (("--journal", "postgresql://u@127.0.0.1/d", "--address", "unix:/tmp/t.sock"), "HOST:PORT"),
    ],
)
async def test_workers_that_could_share_nothing_are_refused(options: tuple[str, ...], said: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *TORANA, "serve", "--workers", "2", *options, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert said in errors.decode()
