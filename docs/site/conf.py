"""The documentation as a static site: `make site` builds it from the Markdown that is read on GitHub.

The source folder is the repository, so that a link between two pages is the same in both places. The pages hold no
directives: the navigation is here, and a page that is in no part of it fails the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from docutils import nodes  # type: ignore[import-untyped] # ships no types
from pygments.lexer import RegexLexer, bygroups  # type: ignore[import-untyped] # as above
from pygments.lexers.special import TextLexer  # type: ignore[import-untyped]
from pygments.token import Generic, Text  # type: ignore[import-untyped]
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
HOME = "docs/index"

NAVIGATION = {
    "Get started": (
        "What Torana is </README>",
        "/docs/quickstart",
        "/docs/concepts",
        "/examples/README",
        "/docs/from-the-guides",
    ),
    "Guides": (
        "/docs/workflows",
        "/docs/streaming",
        "/docs/resources",
        "/docs/secrets",
        "/docs/postgresql",
        "/docs/embedding",
        "/docs/testing",
        "/docs/logging",
        "/clients/python/README",
        "/docs/api",
    ),
    "Reference": ("/docs/configuration", "/docs/cli", "/docs/proto", "/docs/errors"),
    "Background": (
        "/docs/guarantees",
        "/docs/performance",
        "/docs/comparison",
        "/docs/adr/index",
        "/CHANGELOG",
        "/CONTRIBUTING",
    ),
}
"""Every page of the site but its home, in the order of the left side, with a title where its own will not do."""
DECISIONS = tuple(sorted(f"/docs/adr/{path.stem}" for path in (ROOT / "docs/adr").glob("[0-9]*.md")))
"""What `docs/adr/index` holds."""

project = "Torana"
copyright = "the Torana authors, Apache License 2.0"
version = release = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[0]
extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = HOME
include_patterns = ["*.md", "docs/**.md", "clients/python/README.md", "examples/README.md"]
exclude_patterns = [".*", "build", "dist", "benchmarks", "proto", "requirements", "server", "tests", "tools"]
nitpicky = True
myst_heading_anchors = 4
smartquotes = False  # two hyphens begin an option, not a dash

html_theme = "furo"
html_title = f"Torana {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0f5c63", "color-brand-content": "#0b6b75"},
    "dark_css_variables": {"color-brand-primary": "#6cc5cf", "color-brand-content": "#6cc5cf"},
}
pygments_style = "default"
pygments_dark_style = "github-dark"

# A copied console block is its commands; what a program prints is not copied at all.
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_selector = "div:not(.highlight-output):not(.highlight-text) > div.highlight > pre"


class CommandsAndOutput(RegexLexer):  # type: ignore[misc] # as above
    """What a shell's lexer would take for a quotation in output, or in an input of several lines, is none."""

    tokens = {"root": [(r"^(\$ |> )(.*\n)", bygroups(Generic.Prompt, Text)), (r".*\n", Generic.Output)]}  # noqa: RUF012


def setup(app: Sphinx) -> None:
    app.add_lexer("console", CommandsAndOutput)
    app.add_lexer("screen", CommandsAndOutput)
    app.add_lexer("output", TextLexer)
    app.connect("source-read", name_pages_by_title)
    app.connect("doctree-read", repeat_heads_in_cells)
    app.connect("source-read", add_navigation)


def name_pages_by_title(app: Sphinx, page: str, source: list[str]) -> None:
    """A link whose text is a file's name, which helps in a folder, gets the title of what it leads to."""
    source[0] = re.sub(r"\[[\w./-]+\.md\]\(([\w./-]+\.md(?:#[\w-]+)?)\)", r"[](\1)", source[0])


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Gives the home page the navigation, and the page of decisions its own; pages not written yet are left out."""
    if page == HOME:
        source[0] += "".join(toctree(pages, f":caption: {caption}") for caption, pages in NAVIGATION.items())
    elif page == "docs/adr/index":
        source[0] += toctree(DECISIONS)


def repeat_heads_in_cells(app: Sphinx, doctree: nodes.document) -> None:
    """A phone shows each row of a table as a block, where the heads of three or more columns would be missed."""
    for table in doctree.findall(nodes.tgroup):
        heads = [entry.astext() for head in table.findall(nodes.thead) for entry in head.findall(nodes.entry)]
        for row in [row for body in table.findall(nodes.tbody) for row in body.findall(nodes.row)]:
            for head, entry in list(zip(heads, row.findall(nodes.entry), strict=True))[1:] if len(heads) > 2 else ():
                if entry.children:
                    entry.children[0].insert(0, nodes.inline("", f"{head}: ", classes=["cell-head"]))


def toctree(entries: Iterable[str], option: str = "") -> str:
    there = "\n".join(entry for entry in entries if (ROOT / f"{page_of(entry)}.md").exists())
    return f"\n\n```{{toctree}}\n:hidden:\n{option}\n\n{there}\n```\n"


def page_of(entry: str) -> str:
    return re.sub(r"^.*<|>$", "", entry).lstrip("/")
