"""Every source that the guides give to a step is one that a step can have."""

from __future__ import annotations

import re

import pytest

from guides.blocks import MISSING, blocks, guides_are_here, in_torana
from guides.reader import CHAIN
from torana_server.steps import ImportPolicy
from torana_server.steps.source import parse_source, problems_of
from unit.steps.compiled import compilers_local_names

_STEP = re.compile(r'\.add_async_code\("(\w+)", """\n(.*?)\n *"""', re.DOTALL)
BY_THEMSELVES = ("developer 22", "developer 23")
"""Blocks that are a step's source, whole."""


def sources() -> list[tuple[str, str]]:
    if not guides_are_here():
        return []
    found = [
        (f"{block.id}: {name}", in_torana(source))
        for block in blocks().values()
        for name, source in _STEP.findall(block.text)
    ]
    return found + [(name, in_torana(blocks()[name].text)) for name in BY_THEMSELVES]


@pytest.mark.skipif(not guides_are_here(), reason=MISSING)
def test_no_step_of_the_guides_is_overlooked() -> None:
    written = sum(block.text.count(CHAIN) for block in blocks().values())
    assert len(sources()) == written + len(BY_THEMSELVES)


@pytest.mark.parametrize(("name", "source"), [pytest.param(*one, id=one[0]) for one in sources()])
def test_a_source_of_the_guides_compiles_and_binds_what_the_compiler_binds(name: str, source: str) -> None:
    assert problems_of(source, ImportPolicy()) == []
    parsed = parse_source(source, name="step", filename=name)
    assert parsed.names.bound == compilers_local_names(parsed)
