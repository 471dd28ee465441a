"""run, watch, secrets and health against a running server."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import uuid
from typing import IO

import pytest

import torana as client_package
from integration.cli.servers import TIMEOUT_S, TORANA, Ran, command, environment


def on(server, *arguments: str, stdin: str = "") -> Ran:
    return command(*arguments, stdin=stdin, TORANA_SERVER=server.address)


def test_a_run_that_completes_prints_its_events_and_result_and_exits_with_0(server) -> None:
    ran = on(server, "run", "hello", "-p", "name=World")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert '{"greet": {"greeting": "Hello, World!"}}' in ran.stdout
    assert "50% half" in ran.stdout
    assert "✓ completed hello" in ran.stdout


def test_a_pipe_gets_no_escapes(server) -> None:
    assert "\x1b" not in on(server, "run", "hello", "-p", "name=World").stdout


def test_a_run_that_fails_shows_the_line_of_the_workflow_and_exits_with_1(server) -> None:
    ran = on(server, "run", "fails")
    assert ran.returncode == 1
    assert "warning: about to divide" in ran.stdout
    assert 'File "<step fails.divide>", line 2, in divide' in ran.stdout
    assert "return 1 / 0" in ran.stdout


def test_json_is_an_object_an_event_numbered_without_gaps(server) -> None:
    ran = on(server, "run", "hello", "-p", "name=World", "-o", "json")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["kind"], events[-1]["kind"]) == ("accepted", "completed")
    assert events[0]["data"]["request"]["parameters"] == {"name": "World"}


def test_quiet_prints_the_whole_result_alone(server) -> None:
    ran = on(server, "run", "hello", "-p", "name=World", "--quiet")
    assert json.loads(ran.stdout) == {"greet": {"greeting": "Hello, World!"}}


def test_parameters_come_from_standard_input_and_single_ones_win(server) -> None:
    parameters = '{"name": "stdin", "n": 18446744073709551617}'
    ran = on(server, "run", "hello", "--params-json", "-", "-p", "name=typed", "-o", "json", stdin=parameters)
    accepted = json.loads(ran.stdout.splitlines()[0])["data"]["request"]
    assert accepted["parameters"] == {"name": "typed", "n": 2**64 + 1}


def test_labels_context_and_timeout_go_with_the_request(server) -> None:
    ran = on(
        server,
        "run",
        "hello",
        "-p",
        "name=x",
        "--label",
        "team=a",
        "--context",
        "dry=true",
        "--timeout",
        "9",
        "-o",
        "json",
    )
    accepted = json.loads(ran.stdout.splitlines()[0])["data"]["request"]
    assert (accepted["labels"], accepted["context"], accepted["timeout"]) == ({"team": "a"}, {"dry": True}, 9.0)


def test_the_same_idempotency_key_runs_once(server) -> None:
    key = str(uuid.uuid4())
    runs = [on(server, "run", "hello", "-p", "name=x", "--idempotency-key", key, "-o", "json") for _ in range(2)]
    first, second = (json.loads(run.stdout.splitlines()[0])["execution"] for run in runs)
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "nothing"), "there is no workflow 'nothing'"),
        (("run", "hello", "-p", "name"), "-p takes name=value"),
        (("run", "hello", "--params-json", "nowhere.json"), "nowhere.json cannot be read"),
        (("run", "hello", "--data-dir", "data"), "--data-dir is for running a FILE"),
        (("watch",), "name one execution, or give --all or --filter"),
        (("watch", "nothing"), "an execution's id"),
        (("watch", str(uuid.uuid4())), "execution"),
        (("watch", "--filter", "nonsense = "), "filter"),
        (("secrets", "delete", "nothing", "--yes"), "nothing"),
        (("secrets", "put", "db", "hunter2"), "never an argument"),
    ],
)
def test_a_request_that_cannot_be_is_explained_and_exits_with_2(server, arguments, said: str) -> None:
    ran = on(server, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_no_server_exits_with_4_and_says_what_to_do(unused_address) -> None:
    ran = command("secrets", "list", "--address", unused_address)
    assert ran.returncode == 4
    assert "torana serve" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.fixture
def unused_address() -> str:
    return "127.0.0.1:1"


def test_a_detached_execution_is_watched_from_its_beginning(server) -> None:
    started = on(server, "run", "hello", "-p", "name=later", "--detach")
    execution = started.stdout.strip()
    assert f"torana watch {execution}" in started.stderr
    watched = on(server, "watch", execution)
    assert watched.returncode == 0
    assert "Hello, later!" in watched.stdout


def test_watching_after_an_event_leaves_out_what_was_seen(server) -> None:
    execution = on(server, "run", "hello", "-p", "name=x", "--detach").stdout.strip()
    watched = on(server, "watch", execution, "--after", "3", "-o", "json")
    assert json.loads(watched.stdout.splitlines()[0])["sequence"] == 4


def test_a_cancelled_execution_exits_with_3(server) -> None:
    execution = on(server, "run", "endless", "--detach").stdout.strip()
    with client_package.BlockingClient(server.address) as client:
        client.cancel_execution(execution, "enough")
    watched = on(server, "watch", execution)
    assert watched.returncode == 3
    assert "cancelled" in watched.stdout


def test_ctrl_c_leaves_the_execution_running_and_says_how_to_go_on(server) -> None:
    process = subprocess.Popen(
        [*TORANA, "run", "endless", "--address", server.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    execution = process.stdout.readline().split()[-1]
    while "10% waiting" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert f"torana watch {execution} --after " in said
    assert f"--address {server.address}" in said
    assert "Traceback" not in said
    with client_package.BlockingClient(server.address) as client:
        assert client.cancel_execution(execution).state in ("running", "cancelling")


def test_all_executions_are_watched_as_they_run(server) -> None:
    watcher = subprocess.Popen(
        [*TORANA, "watch", "--filter", 'labels.watched = "yes"', "-o", "json", "--address", server.address],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert watcher.stdout is not None
    with client_package.BlockingClient(server.address) as client:
        kinds = seen_by(watcher, client)
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(TIMEOUT_S) == 130
    watcher.stdout.close()
    assert kinds[-1] == "completed"


def seen_by(watcher: subprocess.Popen[str], client: client_package.BlockingClient) -> list[str]:
    """Runs workflows until the watcher, which may still be starting, has seen the whole of one."""
    assert watcher.stdout is not None
    starting = True
    while starting:
        client.execute_workflow("hello", {"name": "x"}, labels={"watched": "yes"})
        starting = not is_readable(watcher.stdout)
    kinds: list[str] = []
    while not kinds or kinds[-1] != "completed":
        kinds.append(json.loads(watcher.stdout.readline())["kind"])
    return kinds


def is_readable(stream: IO[str]) -> bool:
    return bool(select.select([stream], [], [], 0.2)[0])


def test_a_secret_is_stored_listed_and_deleted_and_its_value_never_shown(server) -> None:
    stored = on(server, "secrets", "put", "cli-db", "-", stdin='{"user": "a", "password": "hunter2"}')
    listed = on(server, "secrets", "list")
    unasked = on(server, "secrets", "delete", "cli-db")
    deleted = on(server, "secrets", "delete", "cli-db", "--yes")
    assert (stored.returncode, stored.stdout) == (0, "stored cli-db, version 1\n")
    assert "cli-db\t1\t" in listed.stdout
    assert (unasked.returncode, deleted.returncode) == (2, 0)
    assert "cli-db" not in on(server, "secrets", "list").stdout
    assert not any("hunter2" in text for ran in (stored, listed, deleted) for text in (ran.stdout, ran.stderr))


def test_health_tells_each_component_or_that_nobody_answers(server, unused_address) -> None:
    told = on(server, "health")
    assert told.returncode == 0
    assert {line.split("\t")[0]: line.split("\t")[1] for line in told.stdout.splitlines()}["journal"] == "healthy"
    silent = command("health", "--address", unused_address, "--timeout", "1")
    assert (silent.returncode, silent.stdout) == (4, "")
    assert "torana serve" in silent.stderr


def test_the_health_service_is_asked_as_load_balancers_do(server, unused_address) -> None:
    serving = on(server, "health", "--service", "")
    assert (serving.returncode, serving.stdout) == (0, "serving\n")
    silent = command("health", "--service", "", "--address", unused_address, "--timeout", "1")
    assert (silent.returncode, silent.stdout) == (4, "")
    assert "no answer" in silent.stderr


def test_health_of_a_service_that_does_not_exist_is_a_usage_error(server) -> None:
    asked = on(server, "health", "--service", "nothing.Here")
    assert asked.returncode == 2
    assert "nothing.Here" in asked.stderr
