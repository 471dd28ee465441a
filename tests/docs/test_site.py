"""The site has every page, leads nowhere that is not there, and needs nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from docs.pages import ROOT, name_of, pages

HOME = "docs/index.html"


class Page(HTMLParser):
    """What an HTML page links to, loads and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif "href" in values or "src" in values:
            self.loads.append(values.get("src") or values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    doctrees = str(tmp_path_factory.mktemp("doctrees"))
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
    built = subprocess.run(
        [*command, "-d", doctrees, "-c", "docs/site", ".", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_on_the_left_side(site: Path, built: dict[Path, Page]) -> None:
    navigation = re.search(
        r'<div class="sidebar-tree">(.*?)</div>\s*</div>', (site / HOME).read_text("utf-8"), re.DOTALL
    )
    assert navigation is not None
    listed = {(site / "docs" / link.partition("#")[0]).resolve() for link in Page(navigation[1]).links}
    wanted = {(site / name_of(page)).with_suffix(".html") for page in pages()} - {site / HOME}
    assert {path.relative_to(site) for path in wanted - listed} == set()


def test_every_link_and_anchor_leads_somewhere(site: Path, built: dict[Path, Page]) -> None:
    broken = []
    for path, page in built.items():
        for link in (*page.links, *page.loads):
            target, _, anchor = unquote(link).partition("#")
            if re.match(r"\w+:", target) or path.name == "search.html":
                continue
            there = (path.parent / target.partition("?")[0]).resolve() if target else path
            if not there.exists() or (anchor and there.suffix == ".html" and anchor not in built[there].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_another_host(site: Path, built: dict[Path, Page]) -> None:
    assert [link for page in built.values() for link in page.loads if re.match(r"(https?:)?//", link)] == []
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(\W?(?:https?:)?//|@import", styles) == []


def test_the_search_index_is_a_script_since_a_page_that_was_opened_as_a_file_can_load_no_other(site: Path) -> None:
    assert (site / "searchindex.js").read_text("utf-8").startswith("Search.setIndex(")
