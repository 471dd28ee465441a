"""What a journal is expected to say, as plain JSON: the words that every later version must still find in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from contract.journal_parts import Watcher
from torana_server.access import LOCAL
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.adapters.wire import WireCodec
from torana_server.execution import EVERYTHING, ExecutionError, State, StoredEvent, Summary
from torana_server.execution.state import fold

CODEC: Final = WireCodec()


async def contents(folder: Path) -> list[tuple[Summary, list[StoredEvent]]]:
    """Every execution of a journal with its events, newest first."""
    journal = SqliteJournal(folder)
    await journal.open(Watcher())
    try:
        summaries = await journal.summaries(LOCAL.tenant, EVERYTHING, limit=1_000, before=None)
        return [(s, await journal.read(s.execution, 0, limit=10_000, limit_bytes=1 << 30)) for s in summaries]
    finally:
        await journal.close()


def folded(events: list[StoredEvent]) -> State:
    return fold(CODEC.decode(event.data) for event in events)


def summary_as_json(summary: Summary) -> dict[str, Any]:
    return {
        "execution": summary.execution,
        "workflow": summary.workflow,
        "revision": summary.revision,
        "state": summary.state.value,
        "create_time": summary.create_time,
        "start_time": summary.start_time,
        "end_time": summary.end_time,
        "latest_sequence": summary.latest_sequence,
        "labels": dict(summary.labels),
        "session_id": summary.session_id,
        "idempotency_key": summary.idempotency_key,
        "retry_of": summary.retry_of,
    }


def state_as_json(state: State) -> dict[str, Any]:
    request = state.accepted.request
    return {
        "status": state.status.value,
        "parameters": request.parameters.json,
        "context": request.context.json,
        "subject": state.accepted.subject,
        "error": error_as_json(state.error),
        "outputs": state.outputs(),
        "steps": {
            name: {
                "phase": step.phase.value,
                "attempt": step.attempt,
                "failures": step.failures,
                "interruptions": step.interruptions,
                "output": None if step.output is None else [step.output.json, dict(step.output.types)],
                "route": step.route,
                "checkpoint": None if step.checkpoint is None else step.checkpoint.json,
                "error": error_as_json(step.error),
            }
            for name, step in sorted(state.steps.items())
        },
    }


def error_as_json(error: ExecutionError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "reason": error.reason, "step": error.step}


def event_lines(execution: str, events: list[StoredEvent]) -> Iterator[str]:
    """A line of `events.jsonl` for each event."""
    for event in events:
        line = {
            "execution": execution,
            "sequence": event.sequence,
            "kind": event.kind.name,
            "step": event.step,
            "data": base64.b64encode(event.data).decode(),
        }
        yield json.dumps(line)
