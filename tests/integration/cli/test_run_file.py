"""`torana run FILE`: a server inside the command."""

from __future__ import annotations

import json
import signal
import subprocess

from integration.cli.servers import TIMEOUT_S, TORANA, WORKFLOWS, environment, torana


def test_a_file_runs_without_a_server_and_leaves_nothing_behind(tmp_path) -> None:
    path, scratch = tmp_path / "hello.yaml", tmp_path / "scratch"
    path.write_text(WORKFLOWS["hello"], "utf-8")
    scratch.mkdir()
    ran = torana("run", str(path), "-p", "name=World", "--quiet", TMPDIR=str(scratch))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == {"greet": {"greeting": "Hello, World!"}}
    assert list(scratch.iterdir()) == []


def test_a_data_folder_keeps_the_journal(tmp_path) -> None:
    path = tmp_path / "hello.yaml"
    path.write_text(WORKFLOWS["hello"], "utf-8")
    ran = torana("run", str(path), "-p", "name=World", "--data-dir", str(tmp_path / "data"))
    assert ran.returncode == 0
    assert (tmp_path / "data").is_dir()


def test_a_file_with_problems_is_refused_with_all_of_them(tmp_path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: broken\nsteps: [{name: a, type: code}, {name: a, type: nothing}]\n", "utf-8")
    ran = torana("run", str(path))
    assert (ran.returncode, ran.stdout) == (2, "")
    for place in ("steps[0].config", "steps[1].type"):
        assert place in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_file_that_is_not_there_is_said(tmp_path) -> None:
    ran = torana("run", str(tmp_path / "nothing.yaml"))
    assert ran.returncode == 2
    assert "cannot be read" in ran.stderr


def test_a_file_and_a_server_exclude_each_other(tmp_path) -> None:
    path = tmp_path / "hello.yaml"
    path.write_text(WORKFLOWS["hello"], "utf-8")
    assert torana("run", str(path), "--address", "127.0.0.1:1").returncode == 2
    assert torana("run", str(path), "--detach").returncode == 2
    assert torana("run", str(path), "-p", "name=x", TORANA_SERVER="127.0.0.1:1").returncode == 0


def test_ctrl_c_ends_the_execution_with_the_command(tmp_path) -> None:
    path, scratch = tmp_path / "endless.yaml", tmp_path / "scratch"
    path.write_text(WORKFLOWS["endless"], "utf-8")
    scratch.mkdir()
    process = subprocess.Popen(
        [*TORANA, "run", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(scratch)),
    )
    assert process.stdout is not None
    while "10% waiting" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert said == "Interrupted; the execution stopped with this command.\n"
    assert list(scratch.iterdir()) == []
