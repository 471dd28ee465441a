"""`torana serve` with workflows as files that change and with gateways made in Python, as processes."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import torana
from integration.cli.servers import ROOT, TIMEOUT_S, TORANA, environment
from integration.cli.servers import torana as run_torana
from servers import Gates, gates
from torana_server import Settings
from torana_server.cli.root import app

WAITING = """
name: etl
steps:
  - name: wait
    type: code
    config:
      source: |
        reader, writer = await asyncio.open_connection("127.0.0.1", {port})
        writer.write(b"open\\n")
        await reader.readline()
        writer.close()
  - name: answer
    type: code
    config: {{source: "return {{'version': 1}}"}}
"""
QUICK = """
name: etl
steps:
  - name: answer
    type: code
    config: {{source: "return {{'version': {version}}}"}}
"""


class Server:
    """Its log is read as it comes, so that a test can wait for a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert process.stdout is not None
        threading.Thread(target=self._read, daemon=True).start()
        greeting = process.stdout.readline()
        assert "listens on" in greeting, "\n".join(self.rest())
        self.workflows = [process.stdout.readline() for _ in range(2)][1]
        self.address = greeting.split("listens on ")[1].split()[0]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put("")

    def logged(self, text: str) -> str:
        """The next line that holds `text`; lines before it are passed over."""
        while line := self._lines.get(timeout=TIMEOUT_S):
            if text in line:
                return line
        raise AssertionError(f"the server ended without a line that holds {text!r}")

    def rest(self) -> list[str]:
        return list(iter(lambda: self._lines.get(timeout=TIMEOUT_S), ""))

    def client(self) -> torana.Client:
        return torana.Client(self.address)


@contextmanager
def serving(folder: Path, *options: str, **variables: str) -> Iterator[Server]:
    arguments = ["--address", "127.0.0.1:0", "--data-dir", str(folder / "data"), *options]
    process = subprocess.Popen(
        [*TORANA, "serve", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TORANA_LOG_FORMAT="json", **variables),
    )
    try:
        yield Server(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(TIMEOUT_S)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    folder = tmp_path / "flows"
    folder.mkdir()
    return folder


@pytest.fixture
async def gate() -> AsyncIterator[Gates]:
    async with gates() as made:
        yield made


def save(path: Path, text: str) -> None:
    """As editors save: a new file takes the place of the old one."""
    draft = path.with_name(f".{path.name}.swp")
    draft.write_text(text, "utf-8")
    draft.rename(path)


async def version(client: torana.Client) -> int:
    result = await client.execute_workflow("etl")
    return int(result.result["answer"]["version"])


async def test_what_runs_keeps_its_revision_when_its_file_changes_and_goes(tmp_path, flows, gate) -> None:
    save(flows / "etl.yaml", WAITING.format(port=gate.port))
    with serving(tmp_path, "--workflows", "flows") as server:
        async with server.client() as client:
            old = await client.start_workflow("etl")
            await gate.arrived("open")
            save(flows / "etl.yaml", QUICK.format(version=2))
            said = server.logged("reloaded etl from flows/etl.yaml")
            assert old.revision[:12] in said
            assert await version(client) == 2
            (flows / "etl.yaml").unlink()
            server.logged("removed etl")
            with pytest.raises(torana.errors.WorkflowNotFoundError):
                await client.start_workflow("etl")
            gate.open("open")
            result = await client.watch(old.id).result()
            assert result.result["answer"] == {"version": 1}


async def test_a_file_that_breaks_keeps_its_workflow_and_is_told_with_its_place(tmp_path, flows) -> None:
    save(flows / "etl.yaml", QUICK.format(version=1))
    with serving(tmp_path, "--workflows", "flows") as server:
        async with server.client() as client:
            save(flows / "etl.yaml", QUICK.format(version=1).replace("code", "cod"))
            said = server.logged("is not served")
            assert "flows/etl.yaml" in said
            assert "steps[0].type" in said
            assert "(line 5)" in said
            assert "etl stays as it was" in said
            assert json.loads(said)["level"] == "error"
            assert await version(client) == 1
            save(flows / "etl.yaml", QUICK.format(version=2))
            server.logged("in order again")
            assert await version(client) == 2


async def test_a_file_that_comes_while_it_serves_is_served(tmp_path, flows) -> None:
    with serving(tmp_path, "--workflows", "flows") as server:
        (flows / "etl.yaml").write_text(QUICK.format(version=3))
        server.logged("registered etl")
        async with server.client() as client:
            assert await version(client) == 3


async def test_without_reload_only_sighup_does(tmp_path, flows) -> None:
    save(flows / "etl.yaml", QUICK.format(version=1))
    with serving(tmp_path, "--workflows", "flows", "--no-reload") as server:
        async with server.client() as client:
            save(flows / "etl.yaml", QUICK.format(version=2))
            server.process.send_signal(signal.SIGHUP)
            server.logged("asked by SIGHUP")
            assert await version(client) == 2


def refused(folder: Path, *arguments: str, **variables: str) -> str:
    ran = subprocess.run(
        [*TORANA, "serve", "--address", "127.0.0.1:0", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(**variables),
    )
    assert ran.returncode == 2, ran.stderr
    assert not (folder / "torana-data").exists()
    return ran.stderr


def test_at_the_start_all_problems_of_all_files_are_told_and_nothing_is_made(tmp_path, flows) -> None:
    save(flows / "a.yaml", "name: a\nsteps: [{name: x, type: nothing}]\n")
    save(flows / "b.yaml", "name: [\n")
    said = refused(tmp_path, "--workflows", "flows")
    assert "flows/a.yaml: steps[0].type: " in said
    assert "flows/b.yaml: line 2, column 1: " in said


def test_an_address_that_others_reach_is_refused_before_anything_is_made(tmp_path) -> None:
    said = refused(tmp_path, "--address", "0.0.0.0:0")
    assert "can be reached from other machines" in said


MODULE = """
from torana_server import Gateway, Workflow, WorkflowBuilder

gateway = Gateway(title="Shop")


def answer():
    return {"version": 7}


gateway.register_function("answer", answer)
"""
OF_MODULE = """
name: etl
steps:
  - {name: answer, type: function, config: {function: answer}}
"""


@pytest.mark.parametrize("target", ["shop:gateway", "shop.py:gateway"])
async def test_a_gateway_of_a_module_is_served_with_files_and_options(tmp_path, flows, target: str) -> None:
    (tmp_path / "shop.py").write_text(MODULE)
    (tmp_path / "torana.toml").write_text('description = "of the file"\n')
    save(flows / "etl.yaml", OF_MODULE)
    with serving(tmp_path, target, "--workflows", "flows", TORANA_RUNNING_MAX="3") as server:
        assert (tmp_path / "data").is_dir()
        async with server.client() as client:
            assert await version(client) == 7
            info = await client.get_info()
            assert (info.title, info.description, info.limits["running_executions"]) == ("Shop", "of the file", 3)


def test_what_a_module_raises_is_told_with_its_own_lines(tmp_path) -> None:
    (tmp_path / "shop.py").write_text("def make():\n    return 1 / 0\n")
    said = refused(tmp_path, "shop:make")
    assert 'shop.py", line 2, in make' in said
    assert "ZeroDivisionError: division by zero" in said
    assert "torana_server" not in said
    assert said.endswith("error: shop:make failed\n")


def test_config_show_tells_values_and_sources_and_no_secret(tmp_path) -> None:
    key = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    path = tmp_path / "server.toml"
    path.write_text(f'vault_keys = "{key}"\nrunning_max = 3\n')
    path.chmod(0o600)
    arguments = ("config", "show", "--config", str(path), "--output", "json")
    ran = run_torana(*arguments, TORANA_QUEUED_MAX="4", TORANA_VAULT_KEYS_FILE="keys")
    assert ran.returncode == 0, ran.stderr
    told = {one["name"]: one for one in json.loads(ran.stdout)}
    assert told["running_max"] == {
        "name": "running_max",
        "value": 3,
        "origin": "file",
        "source": f"{path}: running_max",
    }
    assert told["queued_max"] == {"name": "queued_max", "value": 4, "origin": "variable", "source": "TORANA_QUEUED_MAX"}
    assert told["threads_max"] == {"name": "threads_max", "value": 16, "origin": "default", "source": ""}
    assert told["vault_keys"]["value"] == "set"
    assert key[2:] not in ran.stdout
    table = run_torana(*arguments[:4], TORANA_QUEUED_MAX="4").stdout
    assert "queued_max\t4\tTORANA_QUEUED_MAX\n" in table
    assert key[2:] not in table


def test_config_show_refuses_what_serve_would(tmp_path) -> None:
    ran = run_torana("config", "show", TORANA_ADRESS="x")
    assert ran.returncode == 2
    assert "TORANA_ADRESS: is no setting (did you mean 'TORANA_ADDRESS'?)" in ran.stderr


def variables_of(group: Any) -> set[str]:
    """Those that options of commands read by themselves."""
    own = {parameter.envvar for parameter in group.params if parameter.envvar}
    return own.union(*(variables_of(one) for one in getattr(group, "commands", {}).values()))


def test_every_variable_that_a_command_reads_is_known_to_the_settings(monkeypatch) -> None:
    found = variables_of(get_command(app))
    assert found == {"TORANA_SERVER", "TORANA_DEBUG"}
    for name in found:
        monkeypatch.setenv(name, "1")
    Settings()


AT_A_TERMINAL = """
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
said = b""
while b"  workflows" not in said:
    said += os.read(terminal, 4096)
os.close(terminal)
os.waitpid(child, 0)
"""


def test_a_server_ends_with_the_terminal_it_was_started_at(tmp_path, flows) -> None:
    """Also when SIGHUP reloads: nobody could stop it by Ctrl-C any more."""
    serve = ["-m", "torana_server.cli", "serve", "--address", "127.0.0.1:0", "--workflows", str(flows)]
    subprocess.run(
        [sys.executable, "-c", AT_A_TERMINAL, *serve], cwd=tmp_path, env=environment(), timeout=TIMEOUT_S, check=True
    )


OF_ITS_OWN = """
from pydantic import Field
from torana_server import Gateway, StepConfig, StepType


class PressConfig(StepConfig):
    size: int = Field(description="How large.")


class Press(StepType[PressConfig]):
    name = "press"
    description = "Presses"
    Config = PressConfig

    async def run(self, ctx, config, inputs):
        return config.size


gateway = Gateway()
gateway.register_step_type(Press())
"""


def test_the_schema_of_a_server_knows_its_own_types(tmp_path) -> None:
    (tmp_path / "own_types.py").write_text(OF_ITS_OWN)
    with serving(tmp_path, "own_types:gateway") as server:
        ran = run_torana("workflows", "schema", "--server-side", "--address", server.address)
    assert ran.returncode == 0, ran.stderr
    schema = json.loads(ran.stdout)
    assert schema["$defs"]["config_press"]["properties"]["size"]["description"] == "How large."
    published = json.loads((ROOT / "schemas/workflow.schema.json").read_text("utf-8"))
    assert json.loads(run_torana("workflows", "schema").stdout) == published
