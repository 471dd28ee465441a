"""workflows, executions, secrets, resources and the server itself, looked at and steered from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import torana
from integration.cli.servers import WORKFLOWS, Ran, RunningServer, command
from torana_server.workflow import from_yaml, revision_of


def on(server: RunningServer, *arguments: str, stdin: str = "") -> Ran:
    return command(*arguments, stdin=stdin, TORANA_SERVER=server.address)


def answer(server: RunningServer, *arguments: str) -> Any:
    """What a command answers as JSON; as YAML it must be the same."""
    ran = on(server, *arguments, "-o", "json")
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


def ended(server: RunningServer, workflow: str, *options: str) -> str:
    """The id of an execution that has ended."""
    ran = on(server, "run", workflow, "-p", "name=x", *options, "-o", "json")
    return str(json.loads(ran.stdout.splitlines()[0])["execution"])


# workflows


def test_workflows_are_listed_by_name_with_their_revisions(server) -> None:
    listed = answer(server, "workflows", "list")
    assert [one["name"] for one in listed] == sorted(WORKFLOWS)
    assert "definition" not in listed[0]
    lines = on(server, "workflows", "list").stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [[one["name"], one["revision"][:12]] for one in listed]


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_a_workflow_shown_as_yaml_is_the_file_it_came_from(server, name: str) -> None:
    shown = on(server, "workflows", "show", name, "-o", "yaml")
    assert revision_of(from_yaml(shown.stdout)) == revision_of(from_yaml(WORKFLOWS[name]))


def test_a_workflow_is_drawn_also_from_a_file_and_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(WORKFLOWS["hello"], "utf-8")
    drawn = command("workflows", "show", str(tmp_path / "hello.yaml"), "--address", "127.0.0.1:1")
    assert drawn.returncode == 0
    assert "| greet |" in drawn.stdout


def test_files_are_checked_offline_and_every_problem_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(WORKFLOWS["hello"], "utf-8")
    (tmp_path / "bad.yaml").write_text(
        "name: bad\nsteps:\n  - {name: a, type: cod}\n  - {name: a, type: code, config: {sauce: ''}}\n", "utf-8"
    )
    (tmp_path / "no.yaml").write_text("name: [", "utf-8")
    files = [str(tmp_path / name) for name in ("good.yaml", "bad.yaml", "no.yaml")]
    told = command("workflows", "validate", *files)
    assert told.returncode == 2
    assert f"valid   {files[0]}: hello, revision " in told.stdout
    assert f"invalid {files[1]}: steps[0].type: " in told.stdout
    assert f"invalid {files[1]}: steps[1].name: " in told.stdout
    assert f"invalid {files[2]}: line " in told.stdout
    checked = json.loads(command("workflows", "validate", *files, "-o", "json").stdout)
    assert [(one["file"], one["valid"]) for one in checked] == [(files[0], True), (files[1], False), (files[2], False)]
    assert all(problem["path"] and problem["message"] for one in checked[1:] for problem in one["problems"])


def test_a_folder_is_validated_file_by_file(tmp_path) -> None:
    empty = command("workflows", "validate", str(tmp_path))
    assert empty.returncode == 2
    assert "holds no workflow" in empty.stderr
    for name in ("b.yml", "a.yaml"):
        (tmp_path / name).write_text(WORKFLOWS["hello"], "utf-8")
    (tmp_path / "notes.txt").write_text("no workflow", "utf-8")
    told = command("workflows", "validate", str(tmp_path))
    assert [line.split(":")[0] for line in told.stdout.splitlines()] == [
        f"valid   {tmp_path / name}" for name in ("a.yaml", "b.yml")
    ]


def test_a_file_that_cannot_be_read_is_a_usage_error() -> None:
    told = command("workflows", "validate", "nowhere.yaml")
    assert told.returncode == 2
    assert "nowhere.yaml" in told.stderr


def test_a_server_checks_with_the_types_it_has(server) -> None:
    good = on(server, "workflows", "validate", "-", "--server-side", stdin=WORKFLOWS["hello"])
    bad = on(server, "workflows", "validate", "-", "--server-side", stdin="name: b\nsteps: [{name: a, type: cod}]")
    assert (good.returncode, bad.returncode) == (0, 2)
    assert "steps[0].type" in bad.stdout


def test_the_schema_of_workflow_files_is_printed_and_a_server_gives_that_of_its_own_types(server) -> None:
    schema = json.loads(command("workflows", "schema").stdout)
    assert "code" in schema["$defs"]["Step"]["properties"]["type"]["enum"]
    assert json.loads(on(server, "workflows", "schema", "--server-side").stdout) == schema


# executions


def test_every_option_narrows_the_list_of_executions(server) -> None:
    wanted = ended(server, "hello", "--label", "batch=narrow")
    ended(server, "hello", "--label", "batch=other")
    failed = ended(server, "fails", "--label", "batch=narrow")

    def found(*options: str) -> list[str]:
        return [one["id"] for one in answer(server, "executions", "list", *options)]

    narrow = ("--label", "batch=narrow")
    assert found(*narrow) == [failed, wanted]
    assert found(*narrow, "--workflow", "hello") == [wanted]
    assert found(*narrow, "--state", "failed") == [failed]
    assert found(*narrow, "--since", "1h") == [failed, wanted]
    assert found(*narrow, "--until", "1h") == []
    assert found(*narrow, "--since", "2020-01-01", "--filter", "state = COMPLETED") == [wanted]


def test_a_list_that_is_cut_says_so_on_standard_error(server) -> None:
    with torana.BlockingClient(server.address) as client:
        for _ in range(51):
            client.start_workflow("hello", {"name": "you"}, labels={"batch": "cut"})
    cut = on(server, "executions", "list", "-l", "batch=cut")
    assert len(cut.stdout.splitlines()) == 50
    assert "latest 50" in cut.stderr
    whole = on(server, "executions", "list", "-l", "batch=cut", "-n", "0")
    assert (len(whole.stdout.splitlines()), whole.stderr) == (51, "")


def test_a_list_that_is_as_short_as_was_asked_says_no_word_more(server) -> None:
    ended(server, "hello", "--label", "batch=short")
    ended(server, "hello", "--label", "batch=short")
    short = on(server, "executions", "list", "-l", "batch=short", "-n", "1")
    assert (len(short.stdout.splitlines()), short.stderr) == (1, "")


def test_an_execution_shows_its_steps_over_time_and_what_went_wrong(server) -> None:
    shown = on(server, "executions", "show", ended(server, "fails"))
    assert shown.returncode == 0
    assert shown.stdout.startswith("fails  failed in ")
    assert "xxxx" in next(line for line in shown.stdout.splitlines() if line.startswith("divide"))
    assert "ZeroDivisionError: division by zero" in shown.stdout
    assert "return 1 / 0" in shown.stdout


def test_an_execution_shows_its_result_and_on_request_its_events(server) -> None:
    execution = ended(server, "hello")
    shown = on(server, "executions", "show", execution, "--events")
    assert '{"greet": {"greeting": "Hello, x!"}}' in shown.stdout
    assert "50% half" in shown.stdout
    told = answer(server, "executions", "show", execution, "--events")
    assert told["result"] == {"greet": {"greeting": "Hello, x!"}}
    assert [event["sequence"] for event in told["events"]] == list(range(1, told["latest_sequence"] + 1))


def test_what_runs_is_cancelled_and_goes_on_by_a_retry(server) -> None:
    running = on(server, "run", "endless", "--detach").stdout.strip()
    cancelled = on(server, "executions", "cancel", running, "--reason", "enough", "--wait")
    assert cancelled.returncode == 0
    assert cancelled.stdout.split("\t")[2] == "cancelled"
    again = on(server, "executions", "cancel", running)
    assert (again.returncode, "EXECUTION_FINISHED" in again.stderr) == (2, True)
    retried = on(server, "executions", "retry", running)
    fresh = retried.stdout.strip()
    assert f"torana watch {fresh} --address {server.address}" in retried.stderr
    assert answer(server, "executions", "show", fresh)["retry_of"] == running
    on(server, "executions", "cancel", fresh)


def test_of_several_those_that_still_run_are_cancelled_though_others_have_ended(server) -> None:
    done, running = ended(server, "hello"), on(server, "run", "endless", "--detach").stdout.strip()
    cancelled = on(server, "executions", "cancel", done, running, "--wait")
    assert cancelled.returncode == 2
    assert f"execution {done} is COMPLETED already" in cancelled.stderr
    assert cancelled.stdout.startswith(f"{running}\t")
    assert cancelled.stdout.split("\t")[2] == "cancelled"


def test_a_retry_that_is_watched_exits_as_the_new_execution_ends(server) -> None:
    retried = on(server, "executions", "retry", ended(server, "fails"), "--watch")
    assert retried.returncode == 1
    assert "✗ failed fails" in retried.stdout


def test_watch_is_the_same_command_below_executions(server) -> None:
    execution = ended(server, "hello")
    assert on(server, "executions", "watch", execution).stdout == on(server, "watch", execution).stdout


def test_an_export_holds_the_execution_and_every_event(server, tmp_path: Path) -> None:
    executions = [ended(server, "hello"), ended(server, "fails")]
    file = tmp_path / "all.jsonl"
    ran = on(server, "executions", "export", *executions, "--file", str(file))
    assert (ran.returncode, ran.stdout) == (0, "")
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    headers = [line for line in lines if "exported" in line]
    assert [(one["format"], one["exported"]["id"]) for one in headers] == [(1, id_) for id_ in executions]
    first = lines[1 : lines.index(headers[1])]
    assert [event["sequence"] for event in first] == list(range(1, headers[0]["exported"]["latest_sequence"] + 1))
    assert first[-2]["data"]["output"] == {"greeting": "Hello, x!"}
    assert on(server, "executions", "export", *executions).stdout == file.read_text("utf-8")


def test_an_export_into_a_folder_that_is_not_there_is_explained(server) -> None:
    ran = on(server, "executions", "export", ended(server, "hello"), "--file", "nowhere/all.jsonl")
    assert ran.returncode == 2
    assert "cannot be written" in ran.stderr


# secrets, resources and the server


def test_versions_of_a_secret_are_listed_latest_first(server) -> None:
    for _ in range(2):
        on(server, "secrets", "put", "versioned", "-", stdin='{"password": "hunter2"}')
    found = answer(server, "secrets", "versions", "versioned")
    assert [(one["version"], one["state"]) for one in found] == [(2, "current"), (1, "superseded")]
    lines = on(server, "secrets", "versions", "versioned").stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["2", "current"], ["1", "superseded"]]
    assert on(server, "secrets", "versions", "nothing").returncode == 2


def test_a_rotation_says_what_it_did(server) -> None:
    on(server, "secrets", "put", "rotated", "-", stdin='{"password": "hunter2"}')
    done = on(server, "secrets", "rotate")
    assert done.returncode == 0
    assert done.stdout.startswith("nothing to do: all tenant keys are under ")
    assert answer(server, "secrets", "rotate")["rewrapped"] == 0


def test_resource_types_come_with_the_schema_of_their_config(server) -> None:
    types = {one["name"]: one for one in answer(server, "resources", "types")}
    assert {"database", "cache", "http_client"} <= set(types)
    assert "properties" in types["database"]["config_schema"]
    assert "database\t" in on(server, "resources", "types").stdout


@pytest.mark.parametrize("verb", ["show", "check", "drain"])
def test_a_resource_that_does_not_exist_is_a_usage_error(server, verb: str) -> None:
    ran = on(server, "resources", verb, "nothing")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "nothing" in ran.stderr


def test_the_server_tells_what_it_is_and_what_it_counts(server) -> None:
    assert answer(server, "info")["journal"] == "sqlite"
    assert "journal    sqlite, durable" in on(server, "info").stdout
    values = answer(server, "stats")["values"]
    assert {line.split("\t")[0] for line in on(server, "stats").stdout.splitlines()} == set(values)


SHOWN = [
    ("workflows", "list"),
    ("workflows", "show", "hello"),
    ("executions", "list", "-n", "0"),
    ("secrets", "list"),
    ("resources", "list"),
    ("resources", "types"),
    ("info",),
]


@pytest.mark.parametrize("arguments", SHOWN, ids=" ".join)
def test_yaml_says_what_json_says(server, arguments: tuple[str, ...]) -> None:
    assert yaml.safe_load(on(server, *arguments, "-o", "yaml").stdout) == answer(server, *arguments)
