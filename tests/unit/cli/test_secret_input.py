"""Where a secret's value may come from."""

from __future__ import annotations

import io

import pytest

from torana_server.cli import secrets
from torana_server.cli.exits import UsageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stdin(monkeypatch):
    def put(text: str, *, terminal: bool = False) -> None:
        monkeypatch.setattr("sys.stdin", Terminal(text) if terminal else io.StringIO(text))

    return put


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, bool]]:
    """The prompts, as (text, hidden); each is answered with its turn."""
    prompts: list[tuple[str, bool]] = []

    def prompt(text: str, *, hide_input: bool = False, **_: object) -> str:
        prompts.append((text, hide_input))
        return f"answer {len(prompts)}" if len(prompts) < 5 else ""

    monkeypatch.setattr("typer.prompt", prompt)
    return prompts


def test_standard_input_holds_an_object(stdin) -> None:
    stdin('{"user": "a", "n": 3}')
    assert secrets.secret_value("-", None, []) == {"user": "a", "n": 3}


def test_a_file_holds_an_object(tmp_path) -> None:
    path = tmp_path / "secret.json"
    path.write_text('{"token": "t"}', "utf-8")
    assert secrets.secret_value("", path, []) == {"token": "t"}


def test_every_named_field_is_asked_for_hidden(stdin, asked) -> None:
    stdin("", terminal=True)
    assert secrets.secret_value("", None, ["user", "password"]) == {"user": "answer 1", "password": "answer 2"}
    assert asked == [("user", True), ("password", True)]


def test_without_names_they_are_asked_for_too_until_one_is_empty(stdin, asked) -> None:
    stdin("", terminal=True)
    assert secrets.secret_value("", None, []) == {"answer 1": "answer 2", "answer 3": "answer 4"}
    assert [hidden for _, hidden in asked] == [False, True, False, True, False]


def test_a_value_as_an_argument_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError, match="never an argument") as caught:
        secrets.secret_value('{"password": "hunter2"}', None, [])
    assert "hunter2" not in str(caught.value)


def test_a_value_behind_a_field_is_refused_without_repeating_it(stdin) -> None:
    stdin("", terminal=True)
    with pytest.raises(UsageError, match="--field password") as caught:
        secrets.secret_value("", None, ["password=hunter2"])
    assert "hunter2" not in str(caught.value)


def test_two_sources_are_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="give one of"):
        secrets.secret_value("-", tmp_path / "secret.json", [])


def test_without_a_terminal_nothing_is_asked(stdin) -> None:
    stdin("")
    with pytest.raises(UsageError, match="no terminal to ask at"):
        secrets.secret_value("", None, ["password"])


def test_an_empty_secret_is_refused(stdin) -> None:
    stdin("{}")
    with pytest.raises(UsageError, match="no fields"):
        secrets.secret_value("-", None, [])
