"""What the pages point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages import FENCE, ROOT, name_of, pages

LINK = re.compile(r"\[[^]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
TEST_FILE = re.compile(r"`(tests/[\w/]+\.py)`")
TEST_NAME = re.compile(r"`(test_\w+)`")
GUARANTEES = ROOT / "docs/guarantees.md"


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    missing = []
    for target, anchor in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            missing.append(f"{target}#{anchor}")
    assert missing == []


def test_every_page_is_in_the_index() -> None:
    linked = {(ROOT / "docs" / target).resolve() for target, _ in LINK.findall(prose(ROOT / "docs/index.md"))}
    left_out = [name_of(page) for page in pages() if page.parent == ROOT / "docs" and page not in linked]
    assert left_out == ["docs/index.md"]


def test_every_promise_names_tests_that_exist() -> None:
    sections = GUARANTEES.read_text("utf-8").split("\n## ")
    promises = [section for section in sections if re.match(r"P\d+:", section)]
    assert [section.partition(":")[0] for section in promises] == [f"P{number}" for number in range(1, 11)]
    for section in promises:
        files = [ROOT / name for name in TEST_FILE.findall(section)]
        defined = "".join(path.read_text("utf-8") for path in files)
        named = TEST_NAME.findall(section)
        assert named, section.partition("\n")[0]
        assert [name for name in named if f"def {name}(" not in defined] == []
