"""Events as bytes, and back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.v1 import event_pb2 as pb
from torana.v1 import stream_pb2
from torana_server.adapters.wire import WireCodec
from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.execution import events as ev
from torana_server.execution.events import Event, EventKind, ExecutionError, LogLevel
from torana_server.execution.request import ExecutionRequest
from torana_server.resources import Binding, ResourceReference, SharedName

CODEC = WireCodec()

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,9}", fullmatch=True)
micros = st.integers(0, 253_402_300_799_999_999).map(Micros)
sequences = st.integers(1, 2**40)
mappings = st.dictionaries(texts, texts, max_size=3)
outputs = st.dictionaries(names, sequences, max_size=3)
payloads = st.builds(
    Payload, st.sampled_from(["null", "1", '{"a":[1e400]}', '"€"', "12345678901234567890123"]), mappings
)
errors: st.SearchStrategy[ExecutionError] = st.recursive(
    st.builds(
        ExecutionError,
        type=texts,
        message=texts,
        reason=texts,
        step=names,
        attempt=st.integers(0, 2**31 - 1),
        retryable=st.booleans(),
        traceback=texts,
        metadata=mappings,
    ),
    lambda causes: st.builds(ExecutionError, type=texts, message=texts, reason=texts, cause=causes),
    max_leaves=4,
)
config = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
seconds = st.integers(1, 10**12).map(lambda us: us / 1_000_000)
bindings: st.SearchStrategy[Binding] = st.builds(SharedName, names) | st.builds(
    ResourceReference,
    names,
    st.dictionaries(texts, config, max_size=3),
    texts,
    texts,
    texts,
    st.none() | st.integers(1, 10**6).map(float),
)


@st.composite
def requests(draw: st.DrawFn) -> ExecutionRequest:
    """The grace counts only where it is asked for, so elsewhere it is the default."""
    cancel_on_disconnect = draw(st.booleans())
    grace = {"disconnect_grace_s": draw(st.integers(0, 86_400).map(float))} if cancel_on_disconnect else {}
    return ExecutionRequest(
        workflow=draw(names),
        revision=draw(texts),
        parameters=draw(payloads),
        context=draw(payloads),
        resources=draw(st.dictionaries(names, bindings, max_size=3)),
        idempotency_key=draw(texts),
        timeout_s=draw(st.none() | st.integers(1, 10**9).map(float)),
        labels=draw(mappings),
        session_id=draw(texts),
        cancel_on_disconnect=cancel_on_disconnect,
        **grace,
    )


BODIES: Mapping[EventKind, st.SearchStrategy[ev.Body]] = {
    EventKind.EXECUTION_ACCEPTED: st.builds(
        ev.Accepted, requests(), texts, texts, texts, texts, st.integers(1, 2**31 - 1)
    ),
    EventKind.EXECUTION_STARTED: st.just(ev.Started()),
    EventKind.STEP_SCHEDULED: st.just(ev.StepScheduled()),
    EventKind.STEP_STARTED: st.just(ev.StepStarted()),
    EventKind.STEP_PROGRESS: st.builds(ev.StepProgress, st.floats(0, 1), texts, st.none() | payloads),
    EventKind.STEP_LOG: st.builds(
        ev.StepLog, st.sampled_from(LogLevel), texts, st.integers(0, 2**31 - 1), st.none() | payloads
    ),
    EventKind.STEP_EMITTED: st.builds(ev.StepEmitted, texts, payloads),
    EventKind.STEP_CHECKPOINTED: st.builds(ev.StepCheckpointed, payloads),
    EventKind.STEP_RETRYING: st.builds(ev.StepRetrying, errors, micros),
    EventKind.STEP_COMPLETED: st.builds(ev.StepCompleted, payloads, texts),
    EventKind.STEP_FAILED: st.builds(ev.StepFailed, errors, st.booleans()),
    EventKind.STEP_SKIPPED: st.builds(ev.StepSkipped, texts),
    EventKind.STEP_CANCELLED: st.builds(ev.StepCancelled, texts),
    EventKind.STEP_REUSED: st.builds(ev.StepReused, texts, sequences, payloads, texts),
    EventKind.EXECUTION_RECOVERED: st.builds(ev.Recovered, texts),
    EventKind.EXECUTION_CANCELLING: st.builds(ev.Cancelling, texts, texts),
    EventKind.EXECUTION_COMPLETED: st.builds(ev.Completed, outputs),
    EventKind.EXECUTION_FAILED: st.builds(ev.Failed, errors, outputs),
    EventKind.EXECUTION_CANCELLED: st.builds(ev.Cancelled, texts, outputs),
}


def test_every_kind_of_event_is_tried_here() -> None:
    assert set(BODIES) == set(EventKind)


@pytest.mark.parametrize("kind", EventKind, ids=lambda kind: kind.name)
def test_an_event_reads_back_as_it_was(kind: EventKind) -> None:
    @settings(max_examples=40)
    @given(st.builds(Event, sequences, micros, st.just("") | names, st.integers(0, 2**31 - 1), BODIES[kind]))
    def round_trip(event: Event) -> None:
        data = CODEC.encode("an execution", event)
        assert CODEC.decode(data) == event
        message = pb.ExecutionEvent.FromString(data)
        assert message.execution == "an execution"
        assert message.ListFields()[-1][0].number == kind, "the number of the kind is that of its field"

    round_trip()


def event_of(body: ev.Body) -> Event:
    return Event(3, Micros(1_767_225_600_123_456), "a", 1, body)


@settings(max_examples=30)
@given(seconds)
def test_durations_read_back_to_the_microsecond(timeout_s: float) -> None:
    accepted = ev.Accepted(ExecutionRequest(workflow="etl", timeout_s=timeout_s), "r", "acme", "ann")
    body = CODEC.decode(CODEC.encode("e", event_of(accepted))).body
    assert isinstance(body, ev.Accepted)
    assert body.request.timeout_s == pytest.approx(timeout_s, abs=5e-7, rel=0)


def test_fields_that_a_newer_server_wrote_are_passed_over() -> None:
    data = CODEC.encode("e", event_of(ev.StepSkipped("why")))
    unknown = b"\xfa\x7f\x03new"  # field 2047, three bytes
    assert CODEC.decode(data + unknown) == event_of(ev.StepSkipped("why"))


def test_a_level_that_a_newer_server_wrote_is_the_nearest_known_one() -> None:
    message = pb.ExecutionEvent.FromString(CODEC.encode("e", event_of(ev.StepLog(LogLevel.INFO, "line"))))
    message.step_log.level = 9  # type: ignore[assignment]  # no level of this version
    assert CODEC.decode(message.SerializeToString()) == event_of(ev.StepLog(LogLevel.ERROR, "line"))


def test_a_kind_that_is_not_known_is_an_error_that_names_the_event() -> None:
    message = pb.ExecutionEvent(execution="e", sequence=7)
    with pytest.raises(ValueError, match="event 7 is of a kind this server does not know"):
        CODEC.decode(message.SerializeToString() + b"\xfa\x07\x00")


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_bytes_that_are_no_event_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an event|does not know"):
        CODEC.decode(data)


def test_the_bytes_of_a_batch_are_those_of_its_events_put_together() -> None:
    """Which is why nothing is encoded again for a watcher."""
    events = [CODEC.encode("e", event_of(ev.StepSkipped(str(number)))) for number in range(3)]
    batch = stream_pb2.EventBatch(events=[pb.ExecutionEvent.FromString(data) for data in events])
    assert [event.SerializeToString() for event in batch.events] == events
