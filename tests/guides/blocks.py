"""The Python blocks of the two guides, read from where the guides lie, and the page that says how they run here.

The guides are no part of this repository: their folder is `../shared/guides` beside it, or the one that the variable
GATEWAY_GUIDES names. Block "user 3" is the third Python block of the user guide, also when it stands in a list.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/from-the-guides.md"
FOLDER = Path(os.environ.get("GATEWAY_GUIDES") or ROOT.parent / "shared/guides")
FILES = {"developer": "gateway-developer-guide.md", "user": "gateway-user-guide.md"}
MISSING = (
    f"the guides are not in {FOLDER}: put {' and '.join(FILES.values())} there, or name their folder in GATEWAY_GUIDES"
)

_PART = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```$|^#+ (?P<title>[^\n]+)$", re.DOTALL | re.MULTILINE
)
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """`text` has lost the indentation of the list that it stands in, and nothing else."""

    id: str
    section: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """What the page says of a block: `how` is "as it stands", "in a frame" or "changed"."""

    id: str
    section: str
    shows: str
    how: str
    reason: str
    tests: tuple[str, ...]


def guides_are_here() -> bool:
    return all((FOLDER / name).is_file() for name in FILES.values())


@cache
def blocks() -> Mapping[str, Block]:
    return {block.id: block for guide, name in FILES.items() for block in _blocks_of(guide, FOLDER / name)}


@cache
def names() -> Mapping[str, str]:
    """What the page says to write in place of what the guides write."""
    return {code(one): code(other) for one, other in _table("in the guides")}


@cache
def left_out_imports() -> tuple[str, ...]:
    """The imports of names that the guides use and never import."""
    return tuple(code(line) for _, line in _table("used without an import"))


@cache
def rows() -> tuple[Row, ...]:
    found = []
    for number, section, shows, how, tests in _table("block"):
        kind, _, reason = how.partition(": ")
        found.append(Row(number, section, shows, kind, reason, tuple(_CODE.findall(tests))))
    return tuple(found)


def in_torana(text: str) -> str:
    """The text with the names of the page's first table, the longest first, so that none is replaced within another."""
    known = names()
    longest_first = sorted(known, key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest_first)
    return re.sub(pattern, lambda found: known[found[0]], text)


def code(cell: str) -> str:
    return cell.strip("`")


def _blocks_of(guide: str, path: Path) -> Iterator[Block]:
    section, number = "", 0
    for part in _PART.finditer(path.read_text("utf-8")):
        if part["title"]:
            section = part["title"]
        if part["language"] != "python":
            continue
        number += 1
        text = "".join(line.removeprefix(part["indent"]) for line in part["code"].splitlines(keepends=True))
        yield Block(f"{guide} {number}", section, textwrap.dedent(text))


def _table(first_column: str) -> Iterator[list[str]]:
    """The rows of the page's table, or tables, with that first column."""
    inside = False
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first_column:
            inside = True
        elif inside and not cells[0].startswith("---"):
            yield cells
