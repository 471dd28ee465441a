"""The reference parts of the pages say what the code says, and leave nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT
from torana_server import Settings
from torana_server.core.errors import Reason
from torana_server.execution import EventKind, ExecutionState
from torana_server.resources import ResourceTypes
from torana_server.settings import load_settings


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def test_reference_parts_are_as_the_generator_writes_them() -> None:
    command = [sys.executable, "tools/docs_reference.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    row = next(
        line for line in page("configuration.md").splitlines() if line.startswith(f"| `TORANA_{name.upper()}` |")
    )
    default, values, meaning = (cell.strip() for cell in row.split(" | ")[1:])
    assert default
    assert values
    assert meaning.removesuffix("|").strip()


def test_every_error_reason_is_documented_with_its_status_and_meaning_and_there_is_no_other() -> None:
    table = page("errors.md").partition("## Reasons")[2]
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (\S.*? \| \S.*?) \|", table, re.MULTILINE))
    assert rows.keys() == set(Reason)


@pytest.mark.parametrize("kind", list(EventKind))
def test_every_kind_of_event_is_documented(kind: EventKind) -> None:
    name = kind.name.removeprefix("EXECUTION_").lower()
    assert f"| `{name}` |" in page("streaming.md")


@pytest.mark.parametrize("state", list(ExecutionState))
def test_every_state_of_an_execution_is_documented(state: ExecutionState) -> None:
    assert f"| `{state.lower()}` |" in page("concepts.md")


@pytest.mark.parametrize("name", ResourceTypes.standard().names())
def test_every_setting_of_a_resource_type_is_documented(name: str) -> None:
    section = page("resources.md").split(f"\n## {name}\n")[1].split("\n## ")[0]
    for setting in ResourceTypes.standard().get(name).config_model.model_fields:
        assert f"| `{setting}` |" in section


def test_a_file_with_every_setting_is_documented_and_loads_as_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    section = page("configuration.md").split("<!-- reference: settings_file -->")[1].split("<!-- end of")[0]
    text = section.split("```toml\n")[1].split("```")[0]
    for name in Settings.model_fields:
        assert f"\n{name} = " in f"\n{text}" or f"\n# {name} = " in text
    (tmp_path / "torana.toml").write_text(text, "utf-8")
    loaded = load_settings()
    assert loaded.settings == Settings()
    assert set(loaded.origins) == {name for name, value in Settings() if value is not None}
