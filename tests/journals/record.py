"""Records the journal of this version, for later versions to read: `PYTHONPATH=tests python -m journals.record 0.2.0`.

Makes the folder `tests/journals/0.2.0` with the data folder of a server that ran `workflows.py` (`journal.db`,
`vault.db`, `vault.key`), every event as a line of `events.jsonl`, and in `expected.json` what they mean. One execution
is left unfinished. A folder that exists is never written again.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import Any

from journals.portraits import contents, event_lines, folded, state_as_json, summary_as_json
from journals.workflows import register
from torana_server import Gateway, WorkflowRequest
from torana_server.execution import EventKind
from torana_server.settings import Settings

HERE = Path(__file__).parent
FILES = ("journal.db", "vault.db", "vault.key")
NEVER_WRITTEN = frozenset({EventKind.STEP_SCHEDULED})
"""Kinds that the format has and this version's engine does not use."""
SECRETS = {"database": {"password": "pass wörd/§", "user": "ann"}, "token": {"token": "second"}}


def gateway_on(folder: Path) -> Gateway:
    """Gives up what runs as soon as it is closed."""
    gateway = Gateway(data_dir=folder, settings=Settings(drain_grace_s=0, cancel_grace_s=5))
    register(gateway)
    return gateway


async def until(gateway: Gateway, execution: str, kind: str) -> None:
    async with aclosing(gateway.watch(execution)) as events:
        async for event in events:
            if event.kind == kind:
                return
    raise RuntimeError(f"execution {execution} ended without {kind}")


async def first_session(folder: Path) -> str:
    """Executions that end in every way, and secrets; the id of one that is interrupted."""
    async with gateway_on(folder) as gateway:
        await gateway.secret_manager.store_secret("database", SECRETS["database"])
        for token in ("first", "second"):
            await gateway.secret_manager.store_secret("token", {"token": token})
        request = WorkflowRequest(
            parameters={"rows": 2}, context={"user": "ann"}, idempotency_key="key-1", labels={"team": "a"}
        )
        await gateway.execute_workflow("etl", request)
        await gateway.execute_workflow("flaky", WorkflowRequest(session_id="session"))
        await gateway.execute_workflow("handled", WorkflowRequest(parameters={"why": "nobody knows"}))
        failed = await gateway.execute_workflow("breaks", WorkflowRequest(parameters={"why": "no"}))
        await gateway.wait(await gateway.retry_execution(failed.execution_id))
        cancelled = await gateway.start_workflow("waits")
        await until(gateway, cancelled, "step_emitted")
        await gateway.cancel(cancelled, "not needed any more")
        await gateway.wait(cancelled)
        return await interrupted(gateway)


async def second_session(folder: Path, to_recover: str) -> None:
    """The interrupted execution is recovered and ends; another is interrupted and stays so."""
    async with gateway_on(folder) as gateway:
        await gateway.wait(to_recover)
        await interrupted(gateway, idempotency_key="unfinished")


async def interrupted(gateway: Gateway, **fields: Any) -> str:
    execution = await gateway.start_workflow("waits", WorkflowRequest(**fields))
    await until(gateway, execution, "step_emitted")
    return execution


async def record(folder: Path) -> None:
    """Into an empty folder."""
    await second_session(folder, await first_session(folder))
    found = await contents(folder)
    kinds = {event.kind for _, events in found for event in events}
    if kinds != set(EventKind) - NEVER_WRITTEN:
        raise RuntimeError(f"not every kind was recorded: {set(EventKind) - NEVER_WRITTEN ^ kinds}")
    lines = [line for summary, events in found for line in event_lines(summary.execution, events)]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    expected = {
        "secrets": SECRETS,
        "executions": [
            {"summary": summary_as_json(summary), "state": state_as_json(folded(events))} for summary, events in found
        ],
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    (version,) = sys.argv[1:]
    target = HERE / version
    if target.exists():
        raise SystemExit(f"{target} exists; what was recorded is never changed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        asyncio.run(record(folder))
        target.mkdir()
        for name in (*FILES, "events.jsonl", "expected.json"):
            shutil.copyfile(folder / name, target / name)


if __name__ == "__main__":
    main()
