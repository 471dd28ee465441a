"""`torana serve` as a process."""

from __future__ import annotations

import signal
import subprocess

from integration.cli.servers import serving, torana, write_workflows


def test_it_says_where_it_listens_who_can_reach_it_and_what_it_keeps(tmp_path) -> None:
    with serving(tmp_path, "--workflows", str(write_workflows(tmp_path / "workflows"))) as server:
        assert "(this machine only, plain text)" in server.greeting
        assert f"SQLite in {tmp_path / 'data'}" in server.greeting
        assert "endless, fails, hello" in server.greeting
        assert not server.address.endswith(":0")


def test_it_says_once_that_it_made_a_vault_key(tmp_path) -> None:
    said = []
    for _ in range(2):
        with serving(tmp_path) as server:
            server.stop()
        said.append("made a vault key" in (tmp_path / "serve.log").read_text("utf-8"))
    assert said == [True, False]


def test_sigterm_and_sigint_stop_it_gracefully_with_0(tmp_path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(tmp_path) as server:
            assert server.stop(number) == 0


def test_a_second_signal_stops_it_at_once(tmp_path) -> None:
    workflows = write_workflows(tmp_path / "workflows")
    with serving(tmp_path, "--workflows", str(workflows), TORANA_DRAIN_GRACE_S="3600") as server:
        started = torana("run", "endless", "--detach", "--address", server.address)
        assert started.returncode == 0
        server.process.send_signal(signal.SIGTERM)
        while torana("health", "--address", server.address, "--timeout", "1").returncode == 0:
            pass
        assert server.process.poll() is None
        assert server.stop(signal.SIGTERM) != 0


def test_an_execution_goes_on_when_the_server_starts_again(tmp_path) -> None:
    workflows = str(write_workflows(tmp_path / "workflows"))
    with serving(tmp_path, "--workflows", workflows) as server:
        execution = torana("run", "hello", "-p", "name=x", "--detach", "--address", server.address).stdout.strip()
        server.stop()
    with serving(tmp_path, "--workflows", workflows) as server:
        watched = torana("watch", execution, "--address", server.address)
        assert watched.returncode == 0


def refused(*arguments: str, **variables: str) -> str:
    ran = torana("serve", *arguments, **variables)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    return ran.stderr.partition("error: ")[2]


def test_wrong_settings_are_refused_by_name(tmp_path) -> None:
    said = refused("--address", "nowhere", TORANA_RUNNING_MAX="0")
    assert "--address" in said
    assert "TORANA_RUNNING_MAX" in said


def test_plain_text_beyond_this_machine_is_refused(tmp_path) -> None:
    assert "allow_insecure" in refused("--address", "0.0.0.0:0", "--data-dir", str(tmp_path / "data"))


def test_a_workflow_that_does_not_compile_keeps_it_from_starting(tmp_path) -> None:
    (tmp_path / "broken.yaml").write_text("name: broken\nsteps: [{name: a, type: nothing}]\n", "utf-8")
    said = refused("--workflows", str(tmp_path), "--data-dir", str(tmp_path / "data"))
    assert "broken.yaml" in said
    assert "steps[0].type" in said


def test_a_folder_in_use_is_said_with_1(tmp_path) -> None:
    with serving(tmp_path):
        ran = torana("serve", "--address", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    assert ran.returncode == 1
    assert "error: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_version_and_help_need_no_server() -> None:
    assert torana("--version").stdout.startswith("torana ")
    for command in (["--help"], ["run", "--help"], ["secrets", "put", "--help"]):
        shown: subprocess.CompletedProcess[str] = torana(*command, COLUMNS="80")
        assert shown.returncode == 0
        assert max(map(len, shown.stdout.splitlines())) <= 80
