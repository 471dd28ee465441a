"""Journals that earlier versions wrote can be read, folded, watched, gone on with and retried."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from journals.portraits import CODEC, contents, event_lines, folded, state_as_json, summary_as_json
from journals.record import FILES, HERE, gateway_on
from torana_server import Event, Gateway, WorkflowRequest

VERSIONS = sorted(path.parent.name for path in HERE.glob("*/journal.db"))
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest) -> Path:
    return HERE / str(request.param)


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    """A copy to work on."""
    copy = tmp_path / "data"
    copy.mkdir(0o700)
    for name in FILES:
        shutil.copyfile(recorded / name, copy / name)
        (copy / name).chmod(0o600)
    return copy


@pytest.fixture
def expected(recorded: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((recorded / "expected.json").read_text("utf-8"))
    return found


def of_state(expected: dict[str, Any], *states: str) -> list[dict[str, Any]]:
    return [one for one in expected["executions"] if one["summary"]["state"] in states]


async def watched(gateway: Gateway, execution: str) -> list[Event]:
    return [event async for event in gateway.watch(execution)]


async def test_every_execution_is_listed_and_folds_to_what_it_was(folder: Path, expected: dict[str, Any]) -> None:
    found = [
        {"summary": summary_as_json(summary), "state": json.loads(json.dumps(state_as_json(folded(events))))}
        for summary, events in await contents(folder)
    ]
    assert found == expected["executions"]


async def test_every_event_is_there_byte_by_byte_and_means_the_same_today(folder: Path, recorded: Path) -> None:
    found = await contents(folder)
    lines = [line for summary, events in found for line in event_lines(summary.execution, events)]
    assert lines == (recorded / "events.jsonl").read_text("utf-8").splitlines()
    for summary, events in found:
        for stored in events:
            event = CODEC.decode(stored.data)
            assert (event.sequence, event.body.kind, event.step) == (stored.sequence, stored.kind, stored.step)
            assert CODEC.decode(CODEC.encode(summary.execution, event)) == event


async def test_watchers_see_finished_executions_from_their_first_event(folder: Path, expected: dict[str, Any]) -> None:
    async with gateway_on(folder) as gateway:
        for one in of_state(expected, *TERMINAL):
            events = await watched(gateway, one["summary"]["execution"])
            assert [event.sequence for event in events] == list(range(1, one["summary"]["latest_sequence"] + 1))
            assert [event.is_terminal for event in events] == [False] * (len(events) - 1) + [True]
            assert events[-1].kind == one["summary"]["state"].lower()


async def test_what_was_unfinished_goes_on_and_ends(folder: Path, expected: dict[str, Any]) -> None:
    async with gateway_on(folder) as gateway:
        for one in of_state(expected, "QUEUED", "RUNNING", "CANCELLING"):
            execution, latest = one["summary"]["execution"], one["summary"]["latest_sequence"]
            assert (await gateway.wait(execution)).result == {"work": 2, "after": "done"}
            events = await watched(gateway, execution)
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert events[latest].kind == "recovered"


async def test_what_failed_or_was_cancelled_can_be_retried(folder: Path, expected: dict[str, Any]) -> None:
    async with gateway_on(folder) as gateway:
        for one in of_state(expected, "FAILED", "CANCELLED"):
            retried = await gateway.retry_execution(one["summary"]["execution"])
            done = {name for name, step in one["state"]["steps"].items() if step["phase"] == "COMPLETED"}
            if one["summary"]["state"] == "FAILED":
                response = await gateway.wait(retried)
                assert response.error is not None
                assert response.error.message == one["state"]["error"]["message"]
                reused = {event.step for event in await watched(gateway, retried) if event.kind == "step_reused"}
                assert reused == done
            else:
                await gateway.cancel(retried)
                assert (await gateway.wait(retried)).status == "cancelled"


async def test_idempotency_keys_still_name_their_executions(folder: Path, expected: dict[str, Any]) -> None:
    async with gateway_on(folder) as gateway:
        for one in expected["executions"]:
            summary, state = one["summary"], one["state"]
            if not summary["idempotency_key"]:
                continue
            request = WorkflowRequest(
                parameters=json.loads(state["parameters"]),
                context=json.loads(state["context"]),
                idempotency_key=summary["idempotency_key"],
            )
            assert await gateway.start_workflow(summary["workflow"], request) == summary["execution"]


async def test_the_vault_opens_with_its_key_and_reveals_its_secrets(folder: Path, expected: dict[str, Any]) -> None:
    async with gateway_on(folder) as gateway:
        for name, value in expected["secrets"].items():
            assert await gateway.secret_manager.get_secret(name) == value


def test_the_journal_of_this_version_is_recorded() -> None:
    assert version("torana-server") in VERSIONS, "record it: PYTHONPATH=tests python -m journals.record VERSION"
