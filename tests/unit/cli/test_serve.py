"""Settings and workflows of `torana serve`."""

from __future__ import annotations

import pytest

from torana_server import Gateway, Settings
from torana_server.cli.exits import UsageError
from torana_server.cli.serve import greeting, register_folder, server_settings

HELLO = """
name: {name}
steps:
  - name: greet
    type: code
    config: {{source: "{source}"}}
"""


@pytest.fixture
def gateway(tmp_path) -> Gateway:
    return Gateway(data_dir=tmp_path / "data")


def write(folder, file: str, name: str, source: str = "return 1") -> None:
    (folder / file).write_text(HELLO.format(name=name, source=source), "utf-8")


def test_options_win_over_variables(monkeypatch) -> None:
    monkeypatch.setenv("TORANA_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("TORANA_TITLE", "from a variable")
    settings = server_settings({"address": "127.0.0.1:2"})
    assert (settings.address, settings.title) == ("127.0.0.1:2", "from a variable")


def test_every_wrong_setting_is_named_as_it_was_given(monkeypatch) -> None:
    monkeypatch.setenv("TORANA_RUNNING_MAX", "-3")
    with pytest.raises(UsageError) as caught:
        server_settings({"address": "nowhere", "log_level": "LOUD"})
    for name in ("--address: ", "--log-level: ", "TORANA_RUNNING_MAX: "):
        assert name in str(caught.value)


def test_a_refused_setting_is_never_repeated(monkeypatch) -> None:
    monkeypatch.setenv("TORANA_VAULT_KEYS_FILE", "/nowhere")
    monkeypatch.setenv("TORANA_STREAMS_MAX", "hunter2")
    with pytest.raises(UsageError) as caught:
        server_settings({})
    assert "hunter2" not in str(caught.value)


def test_every_yaml_file_of_the_folder_is_registered(gateway, tmp_path) -> None:
    write(tmp_path, "a.yaml", "first")
    write(tmp_path, "b.yml", "second")
    (tmp_path / "notes.txt").write_text("not a workflow", "utf-8")
    register_folder(gateway, tmp_path)
    assert sorted(gateway.workflows) == ["first", "second"]


def test_a_workflow_that_does_not_compile_is_named_with_its_file_and_place(gateway, tmp_path) -> None:
    write(tmp_path, "broken.yaml", "broken", source="return (")
    with pytest.raises(UsageError) as caught:
        register_folder(gateway, tmp_path)
    assert "broken.yaml" in str(caught.value)
    assert "steps[0].config.source" in str(caught.value)


def test_two_files_with_one_workflow_are_refused(gateway, tmp_path) -> None:
    write(tmp_path, "a.yaml", "same")
    write(tmp_path, "b.yaml", "same")
    with pytest.raises(UsageError, match="already names its workflow 'same'"):
        register_folder(gateway, tmp_path)


def test_a_folder_without_workflows_is_said_to_be_one(gateway, tmp_path, capsys) -> None:
    register_folder(gateway, tmp_path)
    assert "holds no workflow" in capsys.readouterr().err


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
    assert said in greeting(Settings(**settings), 7000, [])[0]


def test_the_greeting_says_that_a_journal_in_memory_survives_nothing() -> None:
    assert "nothing survives" in greeting(Settings(journal="memory"), 7000, ["etl"])[1]
