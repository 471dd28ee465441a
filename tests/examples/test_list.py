"""The examples are listed, say how to run them, and are small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples.running import EXAMPLES

PROGRAMS = sorted([*EXAMPLES.rglob("*.py"), *EXAMPLES.rglob("*.yaml")])
LIST = (EXAMPLES / "README.md").read_text("utf-8")
LINES_MAX = 120


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_example_is_in_the_list_and_small(path: Path) -> None:
    name = path.relative_to(EXAMPLES).as_posix()
    assert f"({name})" in LIST or f"({name.partition('/')[0]}/" in LIST
    assert len(path.read_text("utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_command_at_the_top_of_an_example_is_run_by_the_tests_of_the_list(path: Path) -> None:
    commands = re.findall(r"^(?:# )?\$ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert commands
    run = re.findall(r"^\$ (.+?)(?: \| .+)?$", LIST, re.MULTILINE)
    assert [command for command in commands if command not in run] == []
