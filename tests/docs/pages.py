"""The pages of the documentation and the code blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = re.compile(r"\*Not run by the tests: (.+)\*")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|yaml|toml))\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `reason` is why it is not run, from the line above it; "" for all others."""

    page: str
    line: int
    language: str
    text: str
    reason: str

    @property
    def file_name(self) -> str:
        """The file that the block's first line names, in a comment; "" when it names none."""
        found = FILE_NAME.match(self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> tuple[Path, ...]:
    others = ("README.md", "clients/python/README.md", "examples/README.md")
    return (*(ROOT / name for name in others), *sorted((ROOT / "docs").rglob("*.md")))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for fence in FENCE.finditer(text):
        above = text[: fence.start()].rstrip("\n").rpartition("\n")[2]
        note = NOT_RUN.fullmatch(above)
        line = text.count("\n", 0, fence.start()) + 1
        yield Block(name_of(page), line, fence[1], fence[2], note[1] if note else "")
