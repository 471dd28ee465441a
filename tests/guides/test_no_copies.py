"""The guides are another system's: nothing of their text is in this repository, nor its names but on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from architecture.sources import ROOT, tracked_files
from guides.blocks import FOLDER, MISSING, PAGE, guides_are_here, names

CHARS_MIN = 13
"""Shorter lines, such as `try:`, are anybody's."""

Three = tuple[str, str, str]

pytestmark = pytest.mark.skipif(not guides_are_here(), reason=MISSING)


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked_files():
        if path != PAGE and path.suffix != ".lock":
            try:
                yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
            except UnicodeDecodeError:
                continue  # a picture


def threes(text: str) -> set[Three]:
    """Every three lines that follow each other, blank and short ones left out, without their indentation."""
    lines = [line for line in (" ".join(raw.split()) for raw in text.splitlines()) if len(line) >= CHARS_MIN]
    return {(one, two, three) for (one, two), (_, three) in pairwise(pairwise(lines))}


def guides() -> list[Path]:
    return sorted(FOLDER.glob("*.md"))


def test_no_three_lines_in_a_row_are_a_guides() -> None:
    theirs = set().union(*(threes(path.read_text("utf-8")) for path in guides()))
    copied = {name: found for name, text in texts() if (found := threes(text) & theirs)}
    assert copied == {}


def test_no_sentence_is_a_guides() -> None:
    lines = [line for path in guides() for line in _prose(path.read_text("utf-8"))]
    sentences = re.compile("|".join(re.escape(line) for line in lines))
    copied = {name: found[0] for name, text in texts() if (found := sentences.search(" ".join(text.split())))}
    assert copied == {}


def test_the_names_of_the_other_system_are_on_the_page_alone() -> None:
    package = next(iter(names())).split()[1].partition(".")[0]
    renamed = [name for name, ours in names().items() if name.isidentifier() and name != ours]
    foreign = re.compile("|".join([package, *renamed]), re.IGNORECASE)
    assert {name: found[0] for name, text in texts() if (found := foreign.search(text))} == {}


def _prose(text: str) -> Iterator[str]:
    """Lines outside code that are long enough to be a sentence of their own."""
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in outside.splitlines():
        words = " ".join(line.split()).lstrip("-*0123456789. #[]")
        if len(words) > 40:
            yield words
