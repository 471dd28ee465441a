"""docs/from-the-guides.md says of every block of the guides how it is run, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from guides.blocks import MISSING, PAGE, Row, blocks, guides_are_here, in_torana, left_out_imports, names, rows

WHOLE = {"run", "run_until_print"}
PARTS = {"framed", "step", "text", "statements"}

needs_guides = pytest.mark.skipif(not guides_are_here(), reason=MISSING)


@dataclass(frozen=True, slots=True)
class Use:
    """A call that a test makes on its reader, with a block's id."""

    test: str
    block: str
    method: str
    changes: bool


@cache
def defined_tests() -> tuple[ast.AsyncFunctionDef | ast.FunctionDef, ...]:
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    functions = [
        node for tree in trees for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    ]
    return tuple(function for function in functions if function.name.startswith("test_"))


@cache
def uses() -> tuple[Use, ...]:
    return tuple(use for test in defined_tests() for node in ast.walk(test) for use in _uses(test.name, node))


def _uses(test: str, node: ast.AST) -> Iterator[Use]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return
    if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "reader"):
        return
    changes = any(keyword.arg == "instead" for keyword in node.keywords)
    for argument in node.args:
        if isinstance(argument, ast.Constant):
            yield Use(test, str(argument.value), node.func.attr, changes)


def row_id(row: Row) -> str:
    return row.id.replace(" ", "-")


@needs_guides
def test_every_block_has_its_row_and_every_row_its_block() -> None:
    assert [(row.id, row.section) for row in rows()] == [(block.id, block.section) for block in blocks().values()]


@pytest.mark.parametrize("row", rows(), ids=row_id)
def test_a_block_is_run_as_its_row_says_by_the_tests_it_names(row: Row) -> None:
    ours = [use for use in uses() if use.block == row.id and use.test in row.tests]
    assert {use.test for use in ours} == set(row.tests), "each test of the row runs the block"
    as_it_is = {use.method for use in ours if not use.changes}
    if row.how == "as it stands":
        assert as_it_is & WHOLE
    elif row.how == "in a frame":
        assert as_it_is & PARTS
        assert not as_it_is & WHOLE
    else:
        assert row.how == "changed"
        assert not as_it_is & (WHOLE | PARTS - {"statements"})
        assert row.reason
    assert row.shows


def test_every_test_that_the_page_names_is_there_once() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text("utf-8")))
    defined = [test.name for test in defined_tests()]
    assert len(named) > len(rows()) // 2
    assert sorted(defined.count(name) for name in named) == [1] * len(named)


@needs_guides
def test_every_name_in_the_tables_is_one_that_the_guides_use() -> None:
    text = "\n".join(block.text for block in blocks().values())
    unused = [name for name in names() if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    unused += [line for line in left_out_imports() if not re.search(rf"\b{line.split()[-1]}\b", text)]
    assert unused == []


@needs_guides
def test_with_the_names_replaced_no_block_imports_the_system_of_the_guides() -> None:
    package = next(iter(names())).split()[1].partition(".")[0]
    left = re.compile(rf"\b(from|import|getLogger\(.) ?{package}\b")
    assert [block.id for block in blocks().values() if left.search(in_torana(block.text))] == []
