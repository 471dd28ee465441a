from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from examples.running import EXAMPLES

Events = list[dict[str, str]]


@pytest.fixture
async def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[aiohttp.ClientSession]:
    """Speaks to the application, which keeps its data in the test's folder."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("web_app", EXAMPLES / "web_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runner = web.AppRunner(module.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address: Any = runner.addresses[0]
    async with aiohttp.ClientSession(f"http://{address[0]}:{address[1]}") as session:
        yield session
    await runner.cleanup()


async def started(browser: aiohttp.ClientSession) -> str:
    async with browser.post("/reports", data={"rooms": "3"}) as answer:
        report: str = (await answer.json())["events"]
        return report


async def events(browser: aiohttp.ClientSession, report: str, last: str = "0") -> Events:
    async with browser.get(report, headers={"Last-Event-ID": last}) as answer:
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    return [dict(line.split(": ", 1) for line in event.splitlines()) for event in text.strip().split("\n\n")]


async def test_the_page_is_told_of_every_step_of_progress_and_of_the_end(browser: aiohttp.ClientSession) -> None:
    told = await events(browser, await started(browser))
    assert [event["event"] for event in told] == ["progress", "progress", "progress", "end"]
    assert '"room 1 of 3"' in told[0]["data"]
    assert told[-1]["data"] == "completed"


async def test_a_browser_that_comes_back_is_told_what_it_has_missed_and_nothing_twice(
    browser: aiohttp.ClientSession,
) -> None:
    report = await started(browser)
    told = await events(browser, report)
    assert await events(browser, report, last=told[0]["id"]) == told[1:]


async def test_the_page_asks_for_what_the_application_answers(browser: aiohttp.ClientSession) -> None:
    async with browser.get("/") as answer:
        page = await answer.text()
    assert 'fetch("/reports"' in page
    assert "EventSource" in page
