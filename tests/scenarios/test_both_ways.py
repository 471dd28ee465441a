"""A program that moves from the embedding API to a server of its own sees the same: events, results, errors."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import ValkeyAddress, free_port
from scenarios.conftest import cache_reference, embedded, over_grpc
from scenarios.running import Event, Outcome, Reference, Run
from servers import ServerProcess

RYE = {"name": "rye", "minutes": 50}
LOAN = {"card": "AB1234", "title": "Emma", "days": 14, "today": date(2026, 5, 1)}
WAGON = {"wagon": "W7", "tare_kg": 1, "note": "", "cents_per_tonne": 1}
NOBODY_LISTENS = {"type": "database", "config": {"host": "127.0.0.1", "port": free_port()}}
ITS_OWN = ("next_attempt_time", "request")
"""What every execution has of its own: moments, and the key that a client makes up for its request."""


def told(error: Any) -> tuple[Any, ...]:
    """The message without the words that asyncio and uvloop each have for a refused connection."""
    message = error.message.partition(" is not available: ")[0]
    return error.type, message, error.reason, error.step, error.attempt, error.retryable, dict(error.metadata)


def story(event: Event) -> tuple[Any, ...]:
    facts = {name: value for name, value in event.data.items() if name not in ITS_OWN}
    if "error" in facts:
        facts["error"] = told(facts["error"])
    return event.sequence, event.kind, event.step, event.attempt, facts


async def play(run: Run, valkey: ValkeyAddress, workflow: str, parameters: dict[str, Any]) -> Outcome:
    await run.store_secret("cache_login", {"password": valkey.password})
    cache = cache_reference(valkey)
    resources: dict[str, dict[str, Reference]] = {
        "bake": {"meters": cache},
        "lend_book": {"shelves": NOBODY_LISTENS},
        "spare_part": {"store": NOBODY_LISTENS, "seen": cache},
        "weighbridge_debugged": {"bridge": NOBODY_LISTENS},
    }
    return await run(workflow, parameters, resources=resources[workflow], context={"user": "kim"})


@pytest.mark.parametrize(
    ("workflow", "parameters", "status"),
    [
        ("bake", {"loaves": [RYE]}, "completed"),
        ("bake", {"loaves": [{"name": "cake", "minutes": 0}]}, "failed"),
        ("lend_book", {**LOAN, "days": 99}, "failed"),
        ("lend_book", LOAN, "failed"),
        ("spare_part", {"part": "bolt"}, "failed"),
        ("weighbridge_debugged", WAGON, "failed"),
    ],
)
async def test_an_execution_tells_the_same_story_embedded_and_over_grpc(
    tmp_path: Path, server: ServerProcess, valkey: ValkeyAddress, workflow: str, parameters: dict[str, Any], status: str
) -> None:
    async with embedded(tmp_path / "data") as here, over_grpc(server) as there:
        one = await play(here, valkey, workflow, parameters)
        other = await play(there, valkey, workflow, parameters)
    assert one.status == other.status == status
    assert [story(event) for event in one.events] == [story(event) for event in other.events]
    assert dict(one.result) == dict(other.result)
    if status == "failed":
        assert told(one.error) == told(other.error)
        assert one.error.traceback == other.error.traceback
