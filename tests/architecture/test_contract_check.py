"""The check that `make lint` runs on the proto contract, in repositories of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from architecture.sources import ROOT

BUF_YAML = "version: v2\nmodules:\n  - path: proto\nbreaking:\n  use: [WIRE_JSON]\n"
IDENTITY = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
for role in ("AUTHOR", "COMMITTER"):
    IDENTITY |= {f"GIT_{role}_NAME": "tester", f"GIT_{role}_EMAIL": "tester@example.com"}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # what git sets for its hooks would point these commands at the outer repository
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env = inherited | IDENTITY | {"PATH": path}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def commit_contract(folder: Path, field: str) -> None:
    proto = folder / "proto/torana/v1/thing.proto"
    proto.parent.mkdir(parents=True, exist_ok=True)
    proto.write_text(f'syntax = "proto3";\npackage torana.v1;\nmessage Thing {{ {field} }}\n')
    commit(folder)


def commit(folder: Path) -> None:
    for command in (("git", "add", "."), ("git", "commit", "--quiet", "--allow-empty", "-m", "change")):
        run(folder, *command).check_returncode()


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, str(ROOT / "tools/check_breaking.py"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "buf.yaml").write_text(BUF_YAML)
    run(tmp_path, "git", "init", "--quiet", "--initial-branch", "main").check_returncode()
    commit(tmp_path)
    return tmp_path


def test_a_first_contract_has_nothing_to_break(repository: Path) -> None:
    commit_contract(repository, "string name = 1;")
    checked = check(repository)
    assert checked.returncode == 0
    assert "no earlier contract" in checked.stdout


def test_a_field_whose_type_changed_is_reported_also_after_later_commits(repository: Path) -> None:
    commit_contract(repository, "string name = 1;")
    commit_contract(repository, "bytes name = 1;")
    commit(repository)
    checked = check(repository)
    assert checked.returncode != 0
    assert "thing.proto:3" in checked.stdout


def test_a_branch_is_compared_with_where_it_left_main(repository: Path) -> None:
    commit_contract(repository, "string name = 1;")
    run(repository, "git", "checkout", "--quiet", "-b", "topic").check_returncode()
    commit_contract(repository, "string name = 1; int32 count = 2;")
    assert check(repository).returncode == 0
    commit_contract(repository, "string name = 1; string count = 2;")
    assert check(repository).returncode == 0, "what never was on main can still change"
    commit_contract(repository, "bool name = 1;")
    assert check(repository).returncode != 0


def test_a_folder_that_is_no_clone_passes_and_says_so(tmp_path: Path) -> None:
    checked = check(tmp_path)
    assert checked.returncode == 0
    assert "no earlier contract" in checked.stdout
