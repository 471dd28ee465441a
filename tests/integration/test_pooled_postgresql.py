"""A server whose way to PostgreSQL leads through a proxy that pools transactions."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import POSTGRES_PASSWORD, PostgresDatabase, free_port
from torana_server import Gateway, Settings, WorkflowBuilder, WorkflowRequest
from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.opening import connected

KEYS = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin") or shutil.which("pgbouncer")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (apt install pgbouncer)")


@pytest.fixture(params=["session", "transaction", "transaction, parameters ignored"])
def proxied(request: pytest.FixtureRequest, postgres: PostgresDatabase, tmp_path: Path) -> Iterator[PostgresDatabase]:
    """The test's database, behind a pool that gives every transaction another session, if it can."""
    mode, _, ignored = request.param.partition(", ")
    port = free_port()
    (tmp_path / "users").write_text(f'"{postgres.user}" "{POSTGRES_PASSWORD}"\n')
    lines = [
        "[databases]",
        f"* = host={postgres.host} port={postgres.port}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {tmp_path}/users",
        f"pool_mode = {mode}",
        "server_round_robin = 1",
        "max_client_conn = 100",
        "default_pool_size = 30",
        "min_pool_size = 5",
        "ignore_startup_parameters = search_path,synchronous_commit,jit,tcp_keepalives_idle,tcp_keepalives_interval,"
        "tcp_keepalives_count"
        if ignored
        else "",
    ]
    path = tmp_path / "pgbouncer.ini"
    path.write_text("\n".join(lines) + "\n")
    for file in (tmp_path, path, tmp_path / "users"):
        file.chmod(0o755)
    assert PGBOUNCER is not None
    process = subprocess.Popen([PGBOUNCER, "-u", "nobody", str(path)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "process up" in line:
            break
    yield replace(postgres, port=port)
    process.terminate()
    process.communicate()


def adding() -> Any:
    async def add(number: int) -> int:
        return number + 1

    return WorkflowBuilder("add").add_step("one", add).build()


async def test_executions_secrets_and_watches_work_through_the_proxy(proxied: PostgresDatabase) -> None:
    settings = Settings(journal=proxied.url, vault_keys=KEYS, drain_grace_s=1)
    async with Gateway(settings=settings) as one, Gateway(settings=settings) as other:
        for gateway in (one, other):
            gateway.register_workflow("add", adding())
        await one.secret_manager.store_secret("db", {"password": "x"})
        assert await other.secret_manager.get_secret("db") == {"password": "x"}

        async def add(number: int) -> None:
            request = WorkflowRequest(parameters={"number": number})
            execution = await one.start_workflow("add", request)
            seen = [event async for event in other.watch(execution)]
            assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
            assert (await one.wait(execution)).is_success

        async with asyncio.timeout(60):
            await asyncio.gather(*(add(number) for number in range(20)))


async def test_a_proxy_is_found_out_whether_it_refuses_settings_or_leaves_them_out(
    proxied: PostgresDatabase, postgres: PostgresDatabase
) -> None:
    for database, pooled in ((proxied, True), (postgres, False)):
        place, connection = await connected(Place(database.url, "torana"))
        await connection.close()
        assert place.pooled is pooled
