"""Settings of a command: options above variables above the file above defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torana_server.core.errors import InvalidRequestError
from torana_server.settings import LoadedSettings, load_settings

KEY = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path()


def write(text: str, name: str = "torana.toml", mode: int = 0o644) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def problems(options: dict[str, object] | None = None, config: Path | None = None) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        load_settings(options, config)
    return [str(violation) for violation in caught.value.violations]


def told(loaded: LoadedSettings, name: str) -> tuple[object, str, str]:
    return (getattr(loaded.settings, name), *loaded.origin(name))


def test_each_source_stands_above_the_one_before_and_is_named(monkeypatch) -> None:
    write('title = "file"\nrunning_max = 1\nqueued_max = 1\nstreams_max = 1\n')
    monkeypatch.setenv("TORANA_RUNNING_MAX", "2")
    monkeypatch.setenv("TORANA_QUEUED_MAX", "2")
    loaded = load_settings({"queued_max": 3, "workflows_reload": False})
    assert told(loaded, "threads_max") == (16, "default", "default")
    assert told(loaded, "streams_max") == (1, "file", "torana.toml: streams_max")
    assert told(loaded, "running_max") == (2, "variable", "TORANA_RUNNING_MAX")
    assert told(loaded, "queued_max") == (3, "option", "--queued-max")
    assert told(loaded, "workflows_reload") == (False, "option", "--no-reload")


def test_the_file_is_the_given_one_or_the_named_one_or_that_of_the_folder(monkeypatch) -> None:
    assert load_settings().file is None
    write("running_max = 1")
    assert load_settings().settings.running_max == 1
    monkeypatch.setenv("TORANA_CONFIG", str(write("running_max = 2", "named.toml")))
    assert load_settings().settings.running_max == 2
    assert load_settings(config=write("running_max = 3", "given.toml")).settings.running_max == 3


def test_a_file_that_was_asked_for_must_exist(monkeypatch) -> None:
    assert problems(config=Path("none.toml")) == ["none.toml: cannot be read: No such file or directory"]
    monkeypatch.setenv("TORANA_CONFIG", "other.toml")
    assert problems() == ["other.toml: cannot be read: No such file or directory"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('adress = "x"', "torana.toml: adress: is no setting (did you mean 'address'?)"),
        ('data-dir = "x"', "torana.toml: data-dir: is no setting (did you mean 'data_dir'?)"),
        ("[limits]\nrunning_max = 1", "torana.toml: limits: is a table, but settings are flat: write `name = value`"),
        ("running_max = 0", "torana.toml: running_max: Input should be greater than or equal to 1"),
        ("running_max = 'many'", "torana.toml: running_max: Input should be a valid integer"),
        ("running_max =", "torana.toml: is not TOML: Invalid value"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_key(text: str, said: str) -> None:
    write(text)
    (problem,) = problems()
    assert problem.startswith(said)


def test_every_problem_of_all_sources_is_told_at_once_and_no_value(monkeypatch) -> None:
    write('vault_keys = 1\nlog_level = "hunter2"\nrunning_max = 0\nsurplus = 1')
    monkeypatch.setenv("TORANA_RUNING_MAX", "1")
    found = problems({"address": "hunter3"})
    for place in (
        "--address",
        "TORANA_RUNING_MAX",
        "torana.toml: log_level",
        "torana.toml: running_max",
        "torana.toml: surplus",
        "torana.toml: vault_keys",
    ):
        assert any(line.startswith(f"{place}: ") for line in found), found
    assert "hunter" not in str(found)


def test_paths_in_the_file_are_relative_to_its_folder(folder) -> None:
    path = write('data_dir = "data"\ntls_key = "/etc/key.pem"\n', "conf/torana.toml")
    settings = load_settings(config=path).settings
    assert settings.data_dir == Path("conf/data")
    assert settings.tls_key == Path("/etc/key.pem")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_a_file_with_keys_in_it_may_be_read_by_its_owner_alone() -> None:
    write(f'vault_keys = "{KEY}"', mode=0o640)
    (problem,) = problems()
    assert problem.startswith("torana.toml: vault_keys: the file has mode 0640")
    assert "chmod 600 torana.toml" in problem
    assert KEY not in problem
    write(f'vault_keys = "{KEY}"', mode=0o600)
    assert load_settings().settings.vault_keys is not None


def test_a_list_in_the_file_is_a_list() -> None:
    write('template_env = ["REGION", "STAGE"]')
    assert load_settings().settings.template_env == ("REGION", "STAGE")
