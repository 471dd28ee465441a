from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.pages import ROOT, Block, blocks, name_of, pages
from docs.reader import PORTS, PageError, Reader, environment


@pytest.fixture(params=pages(), ids=name_of)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def servers(page: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables by which a page finds a PostgreSQL and a Valkey, which run for the pages that name them."""
    found: dict[str, str] = {}
    text = page.read_text("utf-8")
    if "PGPASSWORD" in text:
        database = request.getfixturevalue("postgres")
        found |= {"PGHOST": database.host, "PGPORT": str(database.port), "PGDATABASE": database.database}
        found |= {"PGUSER": database.user, "PGPASSWORD": database.password}
    if "CACHE_PASSWORD" in text:
        cache = request.getfixturevalue("valkey")
        found |= {"CACHE_PORT": str(cache.port), "CACHE_PASSWORD": cache.password}
    return found


def reader_in(folder: Path) -> Reader:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = dict(zip(PORTS, (str(probe.getsockname()[1]) for probe in probes), strict=True))
    return Reader(folder, ports, environment(ports[PORTS[0]]))


@pytest.fixture
def reader(tmp_path: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    for name, value in servers.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    handlers = logging.getLogger().handlers[:]
    reader = reader_in(tmp_path)
    reader.env |= servers
    yield reader
    reader.leave()
    logging.getLogger().handlers[:] = handlers
    for name in sys.modules.keys() - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]  # a page's own file


async def test_every_block_of_a_page_does_what_the_page_says(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        if not block.reason:
            await reader.read(block)


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("console", "$ echo one\ntwo\n", "--- but it is\none"),
        ("console", "$ exit 3\n", "exited with 3"),
        ("console", "no command\n", "begins with a command"),
        ("screen", "$ echo one\ntwo\n", "never shows\ntwo"),
        ("python", "raise KeyError('x')\n", "KeyError"),
        ("output", "what nothing printed\n", "the block above"),
        ("yaml", "name: no steps\n", "steps"),
        ("json", "{", "JSONDecodeError"),
        ("toml", "=", "TOMLDecodeError"),
        ("rust", "fn main() {}\n", "no reason is given"),
    ],
)
async def test_a_block_that_does_something_else_is_an_error_that_says_where(
    language: str, text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(PageError, match=r"page\.md:7: ") as caught:
        await reader_in(tmp_path).read(Block("page.md", 7, language, text, ""))
    assert said in str(caught.value)
