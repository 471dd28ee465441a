"""`torana resources` and `torana health` on a server that has pools of a PostgreSQL and a Valkey open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.cli.servers import Ran, RunningServer, command, serving
from integration.conftest import PostgresDatabase, ValkeyAddress

USES_BOTH = """
name: uses_both
steps:
  - name: ask
    type: code
    required_resources: [db, kv]
    config:
      source: |
        database, cache = await get_resource("db"), await get_resource("kv")
        await cache.set("asked", 1)
        return await database.fetchval("SELECT 41 + 1")
"""
HOLDS = """
name: holds
steps:
  - name: hold
    type: code
    required_resources: [db]
    config:
      source: |
        await get_resource("db")
        await progress(0.5, "held")
        await asyncio.Event().wait()
"""

Torana = Callable[..., Ran]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "uses_both.yaml").write_text(USES_BOTH)
    (folder / "holds.yaml").write_text(HOLDS)
    with serving(tmp_path, "--workflows", str(folder)) as server:
        yield server


@pytest.fixture
def torana(server: RunningServer) -> Torana:
    return lambda *arguments, stdin="": command(*arguments, stdin=stdin, TORANA_SERVER=server.address)


@pytest.fixture
def bindings(torana: Torana, postgres: PostgresDatabase, valkey: ValkeyAddress) -> dict[str, str]:
    """Options of `run` that bind `db` and `kv`; their secrets are in the vault."""
    login = {"user": postgres.user, "password": postgres.password}
    for name, value in {"db_login": login, "kv_login": {"password": valkey.password}}.items():
        assert torana("secrets", "put", name, "-", stdin=json.dumps(value)).returncode == 0
    places = {
        "db": ("database", {"host": postgres.host, "port": postgres.port, "database": postgres.database}),
        "kv": ("cache", {"host": valkey.host, "port": valkey.port}),
    }
    return {
        name: f"{name}={json.dumps({'type': kind, 'config': config, 'credentials_ref': f'{name}_login'})}"
        for name, (kind, config) in places.items()
    }


@pytest.fixture
def pools(torana: Torana, bindings: dict[str, str]) -> dict[str, str]:
    """The name of each open pool by its type, after an execution that used both."""
    ran = torana("run", "uses_both", "--resource", bindings["db"], "--resource", bindings["kv"], "-q")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"ask": 42})
    return {one["type"]: one["name"] for one in answer(torana, "resources", "list")}


def answer(torana: Torana, *arguments: str) -> Any:
    ran = torana(*arguments, "-o", "json")
    assert ran.stderr == ""
    return json.loads(ran.stdout)


def test_open_pools_are_listed_with_where_they_point_and_without_credentials(torana, pools, postgres, valkey) -> None:
    listed = torana("resources", "list").stdout
    assert {line.split("\t")[1] for line in listed.splitlines()} == {"database", "cache"} == set(pools)
    assert f"{postgres.host}:{postgres.port}" in listed
    shown = "".join(torana("resources", "show", name).stdout for name in pools.values())
    assert "db_login" in shown
    assert "kv_login" in shown
    for password in (postgres.password, valkey.password):
        assert password not in listed + shown


@pytest.mark.parametrize("kind", ["database", "cache"])
def test_a_check_asks_the_server_behind_a_pool(torana, pools, kind: str) -> None:
    checked = answer(torana, "resources", "check", pools[kind])
    assert checked["state"] == "healthy"
    assert checked["check_time"] is not None
    assert checked["last_error"] == ""


def test_a_pool_whose_server_has_gone_is_unhealthy_and_says_why(torana, pools, postgres_server) -> None:
    postgres_server.stop()
    try:
        checked = torana("resources", "check", pools["database"])
        health = torana("health")
    finally:
        postgres_server.start()
    assert checked.returncode == 1
    assert "unhealthy" in checked.stdout
    assert "last error" in checked.stdout
    assert health.returncode == 0
    assert f"resource:{pools['database']}\tunhealthy" in health.stdout
    assert torana("resources", "check", pools["database"]).returncode == 0


def test_a_drained_pool_is_gone_and_the_next_execution_opens_another(torana, bindings, pools) -> None:
    assert torana("resources", "drain", pools["database"]).returncode == 0
    assert [one["type"] for one in answer(torana, "resources", "list")] == ["cache"]
    again = torana("run", "uses_both", "--resource", bindings["db"], "--resource", bindings["kv"], "-q")
    assert json.loads(again.stdout) == {"ask": 42}
    assert {one["type"] for one in answer(torana, "resources", "list")} == {"cache", "database"}


def test_a_pool_in_use_shows_its_lease_and_drains_when_it_is_returned(torana, bindings) -> None:
    execution = torana("run", "holds", "--resource", bindings["db"], "--detach").stdout.strip()
    [pool] = leased(torana)
    assert pool["leases"] == 1
    assert answer(torana, "resources", "drain", pool["name"])["state"] == "draining"
    assert torana("executions", "cancel", execution, "--wait").returncode in (0, 3)
    assert answer(torana, "resources", "list") == []


def leased(torana: Torana) -> Any:
    """The pools once one is leased; the execution has just been started."""
    while not any(one["leases"] for one in answer(torana, "resources", "list")):
        pass
    return answer(torana, "resources", "list")
