"""How every command behaves: help, wrong input, defects, pipes, terminals, colours, completion."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from integration.cli.servers import TIMEOUT_S, TORANA, command, environment, torana
from torana_server.cli.root import app

BOXES = re.compile("[─-╿]")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]m")


def paths(group: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield prefix
    for name, one in getattr(group, "commands", {}).items():
        yield from paths(one, (*prefix, name))


PATHS = list(paths(typer.main.get_command(app)))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: " ".join(path) or "torana")
def test_help_fits_80_columns_and_draws_no_boxes(path: tuple[str, ...]) -> None:
    asked = command(*path, "-h", COLUMNS="80")
    assert asked.returncode == 0
    assert asked.stdout.startswith("Usage: ")
    assert max(map(len, asked.stdout.splitlines())) <= 80
    assert not BOXES.search(asked.stdout)


LEAVES = [path for path in PATHS if not any(other[: len(path)] == path and other != path for other in PATHS)]


@pytest.mark.parametrize("path", [path for path in LEAVES if path != ("demo",)], ids=" ".join)
def test_help_of_every_command_has_an_example(path: tuple[str, ...]) -> None:
    said = command(*path, "--help").stdout
    assert "Examples:\n" in said
    name = "torana watch" if path[-1] == "watch" else f"torana {' '.join(path)}"
    assert name in said.split("Examples:\n")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("excutions",), "no such command 'excutions'. Did you mean 'executions'?\n  See `torana --help`."),
        (("executions", "shwo", "x"), "Did you mean 'show'?\n  See `torana executions --help`."),
        (("run", "x", "--labl", "a=b"), "no such option: --labl. Did you mean --label?\n  See `torana run --help`."),
        (("--address", "x:1", "health"), "no such option: --address; it goes after the command"),
        (("run",), "missing argument 'workflow'"),
        (("executions", "list", "--state", "gone"), "'gone' is not one of 'queued', 'running'"),
        (("executions", "list", "-o", "xml"), "'xml' is not one of 'table', 'json', 'yaml'"),
        (("executions", "list", "--since", "yesterday"), "how long ago (30s, 15m, 2h, 7d) or a time"),
    ],
)
def test_what_is_typed_wrong_is_told_with_the_nearest_right_thing(arguments: tuple[str, ...], said: str) -> None:
    ran = torana(*arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_group_alone_shows_its_help() -> None:
    ran = torana("executions")
    assert ran.returncode == 2
    assert ran.stderr.startswith("Usage: torana executions")


@pytest.mark.parametrize("arguments", [("watch", "01a1fc5f-1ef8-7191-b1f0-cfa7603d3135"), ("run", "x"), ("info",)])
def test_no_server_is_told_with_what_to_do(arguments: tuple[str, ...]) -> None:
    ran = torana(*arguments, "--address", "127.0.0.1:1")
    assert ran.returncode == 4
    assert "Is a server running there? Start one with `torana serve`" in ran.stderr
    assert "torana watch" not in ran.stderr


def test_a_defect_is_told_without_its_traceback_unless_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("torana_server.cli.server.info_lines", broken)
    monkeypatch.setattr("torana.BlockingClient.get_info", lambda client: None)
    told = command("info")
    assert told.returncode == 70
    assert told.stderr.startswith("error: a defect of this command: ZeroDivisionError: division by zero\n")
    assert "Traceback" not in told.stderr
    assert "Traceback" in command("--debug", "info").stderr
    assert "Traceback" in command("info", TORANA_DEBUG="1").stderr


@pytest.mark.parametrize("words", [("workflows", "list"), ("info",), ("run", "fails")], ids=" ".join)
def test_a_reader_that_leaves_ends_the_command_quietly(server, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [*TORANA, *words, "--address", server.address]
    ran = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, env=environment(), check=False)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_ctrl_c_ends_a_watch_with_how_to_go_on_and_no_word_more(server) -> None:
    execution = torana("run", "endless", "--detach", "--address", server.address).stdout.strip()
    arguments = [*TORANA, "watch", execution, "--address", server.address]
    watcher = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert watcher.stdout is not None
    while "10% waiting" not in watcher.stdout.readline():
        pass
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=TIMEOUT_S)
    assert watcher.returncode == 130
    assert re.fullmatch(rf"Watch on: torana watch {execution} --after \d+ --address {server.address}\n", said)


def at_a_terminal(*arguments: str, **variables: str) -> str:
    """What a terminal of 80 columns shows."""
    above, below = pty.openpty()
    given = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color", **variables}
    env = {name: value for name, value in environment(**given).items() if name != "NO_COLOR" or "NO_COLOR" in variables}
    process = subprocess.Popen([*TORANA, *arguments], stdout=below, stderr=below, stdin=below, env=env)
    os.close(below)
    shown = b"".join(_read(above))
    assert process.wait(TIMEOUT_S) == 0
    os.close(above)
    return shown.decode().replace("\r\n", "\n")


def _read(descriptor: int) -> Iterator[bytes]:
    """Until the other side is closed, which Linux tells by an error."""
    try:
        while chunk := os.read(descriptor, 65_536):
            yield chunk
    except OSError:
        return


def test_a_terminal_gets_columns_with_heads_and_colours(server) -> None:
    execution = torana("run", "fails", "-o", "json", "--address", server.address).stdout.split('"')[3]
    shown = at_a_terminal("executions", "list", "--address", server.address)
    assert COLOUR.search(shown)
    plain = ESCAPE.sub("", shown)
    assert plain.splitlines()[0].split() == ["ID", "WORKFLOW", "STATE", "AGE", "TOOK"]
    assert execution in plain
    assert max(map(len, plain.splitlines())) <= 80


def test_no_color_takes_the_colours_away(server) -> None:
    shown = at_a_terminal("executions", "list", "--address", server.address, NO_COLOR="1")
    assert not COLOUR.search(shown)


def test_a_dumb_terminal_gets_no_escapes_and_no_boxes(server) -> None:
    shown = at_a_terminal("workflows", "show", "hello", "--address", server.address, TERM="dumb")
    assert "| greet |" in shown
    assert "\x1b" not in shown
    assert not BOXES.search(shown)


def test_a_terminal_draws_the_graph_with_lines(server) -> None:
    assert "│ greet │" in ESCAPE.sub("", at_a_terminal("workflows", "show", "hello", "--address", server.address))


def test_force_color_colours_a_pipe_and_nothing_else(server) -> None:
    variables = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    ran = subprocess.run(
        [*TORANA, "run", "hello", "-p", "name=x", "--address", server.address],
        capture_output=True,
        text=True,
        env={**variables, "FORCE_COLOR": "1", "TERM": "xterm"},
        check=True,
    )
    assert COLOUR.search(ran.stdout)
    assert not BOXES.search(ran.stdout)
    assert "\x1b[?25l" not in ran.stdout, "a pipe has no cursor to hide"


def test_an_encoding_without_the_characters_is_no_defect(server) -> None:
    ran = torana("run", "hello", "-p", "name=é", "-q", "--address", server.address, PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stdout) == (0, '{\n  "greet": {\n    "greeting": "Hello, \\u00e9!"\n  }\n}\n')
    lines = torana("run", "hello", "-p", "name=é", "--address", server.address, PYTHONIOENCODING="ascii")
    assert lines.returncode == 0


# completion


def completed(*words: str, **variables: str) -> list[str]:
    """What bash would offer for the last of `words`."""
    typed = " ".join(("torana", *words))
    ran = torana(_TORANA_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(words)), **variables)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    ran = torana("completion", shell)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"_TORANA_COMPLETE=complete_{shell}" in ran.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_reads_its_script() -> None:
    script = torana("completion", "bash").stdout
    ran = subprocess.run(["bash", "-c", f"{script}\ncomplete -p torana"], capture_output=True, text=True, check=True)
    assert "_torana_completion torana" in ran.stdout


def test_commands_and_options_are_completed() -> None:
    assert completed("exec") == ["executions"]
    assert completed("executions", "ca") == ["cancel"]
    assert "--label" in completed("executions", "list", "--la")
    assert completed("executions", "list", "--state", "can") == ["cancelling", "cancelled"]


def test_names_and_ids_are_completed_from_the_server(server) -> None:
    here = {"TORANA_SERVER": server.address}
    execution = torana("run", "hello", "-p", "name=x", "--detach", **here).stdout.strip()
    assert completed("run", "he", **here) == ["hello"]
    assert completed("workflows", "show", "--address", server.address, "fa") == ["fails"]
    assert completed("watch", execution[:20], **here) == [execution]
    torana("secrets", "put", "completed-secret", "-", stdin='{"a": "b"}', **here)
    assert completed("secrets", "versions", "completed", **here) == ["completed-secret"]


def test_without_a_server_nothing_is_offered_and_nothing_is_said() -> None:
    assert completed("run", "he", TORANA_SERVER="127.0.0.1:1") == []
    assert completed("watch", "01", TORANA_SERVER="not an address") == []
