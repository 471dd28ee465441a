"""Past 70 lines a function, or 500 a file, there are usually two things in one."""

from __future__ import annotations

import ast

import pytest

from architecture.sources import CLIENT, ROOT, SERVER, functions, python_files

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

# path[:function] -> why the better code is longer
EXCEPTIONS: dict[str, str] = {}

HAND_WRITTEN = [(SERVER, "torana_server"), (CLIENT, "torana"), (ROOT, "benchmarks"), (ROOT, "tools"), (ROOT, "tests")]


@pytest.mark.parametrize(("root", "package"), HAND_WRITTEN, ids=lambda value: str(value).rpartition("/")[2])
def test_no_file_is_longer_than_500_lines(root, package) -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in python_files(root, package)
    }
    assert {name: n for name, n in lengths.items() if n > FILE_LINES_MAX and name not in EXCEPTIONS} == {}


@pytest.mark.parametrize(("root", "package"), HAND_WRITTEN, ids=lambda value: str(value).rpartition("/")[2])
def test_no_function_is_longer_than_70_lines(root, package) -> None:
    lengths = {
        f"{path.relative_to(ROOT).as_posix()}:{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in python_files(root, package)
        for function in functions(ast.parse(path.read_text("utf-8")))
    }
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES_MAX and name not in EXCEPTIONS} == {}
