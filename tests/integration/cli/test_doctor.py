"""`torana doctor` as a command: beside a running server, without one, and by its exit code."""

from __future__ import annotations

import json

from integration.cli.servers import command, serving


def grades(stdout: str) -> dict[str, str]:
    return {one["check"]: one["grade"] for one in json.loads(stdout)}


def test_beside_a_running_server_it_finds_that_server_and_no_problem(tmp_path) -> None:
    with serving(tmp_path) as server:
        variables = {"TORANA_ADDRESS": server.address, "TORANA_DATA_DIR": str(tmp_path / "data")}
        ran = command("doctor", "--output", "json", **variables)
        assert ran.returncode == 0, ran.stdout
        found = {one["check"]: one["found"] for one in json.loads(ran.stdout)}
        assert found["in use"] == f"a server has the folder: process {server.process.pid}"
        assert found["address"] == f"Torana, Torana 0.1.0, listens on {server.address}"
        assert "problem" not in grades(ran.stdout).values()


def test_a_problem_is_told_with_what_to_do_and_1(tmp_path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "journal.db").write_text("something else" * 100)
    (data / "journal.db").chmod(0o600)
    variables = {"TORANA_ADDRESS": "127.0.0.1:0", "TORANA_DATA_DIR": str(data)}
    ran = command("doctor", **variables)
    assert ran.returncode == 1
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("problem\t")]
    assert line.split("\t") == [
        "problem",
        "journal",
        f"{data / 'journal.db'} cannot be read as a journal: NotADBError",
        "restore the data folder from a backup, or start with another one",
    ]


def test_settings_that_cannot_be_used_are_problems_too() -> None:
    ran = command("doctor", "-o", "json", TORANA_ADRESS="x")
    assert ran.returncode == 1
    assert grades(ran.stdout)["settings"] == "problem"
