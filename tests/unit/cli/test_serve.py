"""Workflows and greeting of `torana serve`."""

from __future__ import annotations

import pytest

from torana_server import Gateway, Settings
from torana_server.cli.serve import greeting, workflow_folder


def test_a_folder_without_workflows_is_said_to_be_one(tmp_path, capsys) -> None:
    workflow_folder(Gateway(enable_durability=False), tmp_path)
    assert "holds no workflow" in capsys.readouterr().err


def test_without_a_folder_nothing_is_followed() -> None:
    assert workflow_folder(Gateway(enable_durability=False), None) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"address": "127.0.0.1:0"}, "listens on 127.0.0.1:7000 (this machine only, plain text)"),
        ({"address": "[::1]:0"}, "listens on [::1]:7000 (this machine only, plain text)"),
        ({"address": "localhost:0"}, "listens on localhost:7000 (this machine only, plain text)"),
        ({"address": "0.0.0.0:0", "allow_insecure": True}, "listens on 0.0.0.0:7000 (beyond this machine, plain text)"),
        ({"address": "unix:/run/t.sock"}, "listens on unix:/run/t.sock (this machine only, plain text)"),
    ],
)
def test_the_greeting_says_where_it_listens_and_who_can_reach_it(settings, said: str) -> None:
    assert said in greeting(Settings(**settings), settings["address"], 7000, [])[0]


def test_the_greeting_says_that_a_journal_in_memory_survives_nothing() -> None:
    assert "nothing survives" in greeting(Settings(journal="memory"), "127.0.0.1:1", 7000, ["etl"])[1]


def test_the_greeting_names_the_database_and_not_its_password() -> None:
    said = greeting(Settings(journal="postgresql://u:hidden@h:1/d"), "127.0.0.1:1", 7000, [])[1]
    assert said == "  journal    PostgreSQL at postgresql://u@h:1/d, schema torana"
