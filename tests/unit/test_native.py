from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from torana import _native
from torana.v1 import event_pb2
from torana_server.adapters.wire import WireCodec
from torana_server.core.clock import Micros
from torana_server.core.values import encode
from torana_server.execution import events as ev
from torana_server.execution.request import ExecutionRequest
from torana_server.native import TERMINAL_KINDS, native_event
from torana_server.resources import ResourceReference, SharedName

AT = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)
ERROR = ev.ExecutionError(type="ValueError", message="no", reason="STEP_FAILED", step="a", attempt=2)
REQUEST = ExecutionRequest(
    workflow="w",
    parameters=encode({"day": AT}),
    context=encode({"user": "ada"}),
    resources={"db": ResourceReference("database", {"host": "h"}, "login"), "own": SharedName("ledger")},
    timeout_s=2.5,
)
BODIES: list[ev.Body] = [
    ev.Accepted(REQUEST, "r" * 64, "local", "me"),
    ev.Started(),
    ev.StepScheduled(),
    ev.StepStarted(),
    ev.StepProgress(0.5, "half", encode({"rows": 3})),
    ev.StepLog(ev.LogLevel.WARNING, "careful", 2),
    ev.StepEmitted("topic", encode({"n": 1})),
    ev.StepCheckpointed(encode([1, AT])),
    ev.StepRetrying(ERROR, Micros(1_700_000_000_000_000)),
    ev.StepCompleted(encode({"day": AT}), "high"),
    ev.StepFailed(ERROR, handled=True),
    ev.StepSkipped("not taken"),
    ev.StepCancelled("stopped"),
    ev.StepReused("other", 7, encode(1)),
    ev.Recovered("server"),
    ev.Cancelling("enough", "me"),
    ev.Completed({"a": 3}),
    ev.Failed(ERROR, {"a": 3}),
    ev.Cancelled("enough", {}),
]


def test_every_kind_of_event_is_looked_at() -> None:
    assert {body.kind for body in BODIES} == set(ev.EventKind)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_events_have_the_shape_they_have_in_the_client(body: ev.Body) -> None:
    event = ev.Event(5, Micros(1_700_000_000_123_456), "a", 2, body)
    here = native_event("e-1", event)
    there = _native.event(event_pb2.ExecutionEvent.FromString(WireCodec().encode("e-1", event)))
    for name in ("execution", "sequence", "time", "kind", "step", "attempt", "is_terminal"):
        assert getattr(here, name) == getattr(there, name)
    assert comparable(here.data) == comparable(there.data)


def comparable(data: Any) -> Any:
    """Resources of a request are left out: here they read as a WorkflowRequest takes them."""
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return dataclasses.asdict(data)
    if isinstance(data, dict) and "idempotency_key" in data:
        return {name: value for name, value in data.items() if name != "resources"}
    return {name: comparable(value) for name, value in data.items()} if isinstance(data, dict) else data


def test_the_resources_of_a_request_read_as_a_request_takes_them() -> None:
    told = native_event("e-1", ev.Event(1, Micros(0), "", 0, BODIES[0])).data["request"]
    assert told["resources"]["own"] == "@ledger"
    assert told["resources"]["db"]["config"] == {"host": "h"}
    assert (told["parameters"], told["timeout"]) == ({"day": AT}, timedelta(seconds=2.5))


def test_the_terminal_kinds_are_the_final_states() -> None:
    assert {"completed", "failed", "cancelled"} == TERMINAL_KINDS


def test_an_error_reads_as_a_sentence() -> None:
    assert str(ERROR) == "step 'a', attempt 2: ValueError: no"
    assert str(dataclasses.replace(ERROR, step="")) == "ValueError: no"
