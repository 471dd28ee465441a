"""The fixtures, in a project of a user's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

USER_TESTS = """
import asyncio
import time

import pytest

from torana_server import WorkflowBuilder

MARK
async def test_gateway_and_database(torana_gateway, torana_database):
    torana_gateway.bind("db", torana_database.answers("SELECT 1", 1))
    source = "db = await get_resource('db')\\nreturn await db.fetchval('SELECT 1')"
    workflow = WorkflowBuilder("flow").add_async_code("only", source, required_resources=["db"]).build()
    (await torana_gateway.record(workflow)).assert_completed(only=1)

MARK
async def test_client(torana_gateway, torana_client):
    workflow = WorkflowBuilder("flow").add_async_code("only", "return 1").build()
    torana_gateway.register(workflow)
    assert (await torana_client.execute_workflow("flow")).result == {"only": 1}

MARK
async def test_cache_and_http(torana_cache, torana_http):
    await torana_cache.set("a", 1)
    client = await torana_http.answers("GET", "/", {"ok": True}).create()
    assert (await client.get("/")).status == 200

MARK
async def test_clock_asked_for_last(torana_gateway, torana_clock):
    began = time.monotonic()
    workflow = WorkflowBuilder("flow").add_async_code("only", "await asyncio.sleep(299)").build()
    run = (await torana_gateway.record(workflow)).assert_completed()
    assert run.duration_s == pytest.approx(299, abs=0.1)
    assert time.monotonic() - began < 20

MARK
async def test_clock_alone(torana_clock):
    await torana_clock.advance(86400)
    assert torana_clock.elapsed_s == pytest.approx(86400)
"""

INI = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""

FAILING_TEST = """
from torana_server import WorkflowBuilder


async def test_it(torana_gateway):
    workflow = WorkflowBuilder("flow").add_async_code("only", "raise KeyError('x')").build()
    (await torana_gateway.record(workflow)).assert_completed()
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text(INI)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")])
def test_the_fixtures_work_in_both_modes_of_pytest_asyncio(mode: str, mark: str, tmp_path: Path) -> None:
    (tmp_path / "test_flow.py").write_text(USER_TESTS.replace("MARK", mark))
    ran = run_pytest(tmp_path, "-o", f"asyncio_mode={mode}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "5 passed" in ran.stdout


def test_a_failure_shows_the_users_line_and_the_table_and_no_line_of_the_toolkit(tmp_path: Path) -> None:
    (tmp_path / "test_flow.py").write_text(FAILING_TEST)
    ran = run_pytest(tmp_path, "-o", "asyncio_mode=auto")
    assert ran.returncode == 1
    assert ">       (await torana_gateway.record(workflow)).assert_completed()" in ran.stdout
    assert "should have completed, but failed: only: KeyError: 'x'" in ran.stdout
    assert "only failed" in ran.stdout
    assert "recording.py" not in ran.stdout


def test_a_project_that_uses_none_of_them_does_not_import_torana(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_it():\n    assert 'torana_pytest' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.startswith('torana_server')]\n"
    )
    ran = run_pytest(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_fixtures_are_listed_with_what_they_are(tmp_path: Path) -> None:
    listed = run_pytest(tmp_path, "--fixtures").stdout
    for name in ("gateway", "client", "database", "cache", "http", "clock"):
        assert f"torana_{name} --" in listed
