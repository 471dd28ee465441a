from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from torana.v1 import event_pb2, execution_pb2, execution_service_pb2, stream_pb2
from torana_server.adapters.wire.messages import timestamp
from torana_server.core.clock import Micros
from torana_server.rpc import frames

NOW = Micros(1_700_000_000_123_456)
SEQUENCES = st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1))
EVENTS = st.lists(
    st.builds(
        event_pb2.ExecutionEvent,
        execution=st.text(max_size=40),
        sequence=SEQUENCES,
        step=st.text(max_size=300),
        started=st.just(event_pb2.ExecutionStarted()),
    ),
    max_size=5,
)


def stored(events: list[event_pb2.ExecutionEvent]) -> list[bytes]:
    return [event.SerializeToString() for event in events]


@given(EVENTS, SEQUENCES, SEQUENCES)
def test_a_batch_is_byte_for_byte_what_the_messages_serialise(events, after, through) -> None:
    frame = stream_pb2.StreamFrame(
        batch=stream_pb2.EventBatch(events=events, after_sequence=after, through_sequence=through)
    )
    written = frames.batch(stored(events), after, through)
    assert written == execution_service_pb2.ExecuteResponse(frame=frame).SerializeToString()
    assert written == execution_service_pb2.WatchExecutionResponse(frame=frame).SerializeToString()


@given(EVENTS, st.text(max_size=60))
def test_a_message_of_many_executions_is_byte_for_byte_what_the_message_serialises(events, cursor) -> None:
    message = execution_service_pb2.WatchExecutionsResponse(events=events, cursor=cursor, server_time=timestamp(NOW))
    assert frames.many(stored(events), cursor, NOW) == message.SerializeToString()


@given(st.integers(0, 2**64 - 1))
def test_a_varint_reads_back(value) -> None:
    written = frames.varint(value)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(written)) == value
    assert [byte >= 0x80 for byte in written] == [True] * (len(written) - 1) + [False]


def test_an_event_of_a_kind_this_server_does_not_know_passes_unchanged() -> None:
    unknown = event_pb2.ExecutionEvent(execution="x", sequence=7).SerializeToString() + b"\xfa\x3f\x02hi"
    response = execution_service_pb2.ExecuteResponse.FromString(frames.batch([unknown], 6, 7))
    assert response.frame.batch.events[0].SerializeToString() == unknown


def test_opened_tells_the_bounds_and_the_heartbeat() -> None:
    written = frames.opened(
        "id", oldest_sequence=1, latest_sequence=9, heartbeat_interval=Duration(seconds=15), attached=True
    )
    opened = execution_service_pb2.WatchExecutionResponse.FromString(written).frame.opened
    assert opened == stream_pb2.StreamOpened(
        execution="id",
        oldest_sequence=1,
        latest_sequence=9,
        heartbeat_interval=Duration(seconds=15),
        attached=True,
    )


def test_a_heartbeat_carries_the_cursor_and_the_time() -> None:
    frame = execution_service_pb2.ExecuteResponse.FromString(frames.heartbeat(5, NOW)).frame
    assert frame.heartbeat == stream_pb2.Heartbeat(through_sequence=5, server_time=timestamp(NOW))


def test_an_end_says_why_where_and_whether_to_come_back() -> None:
    reason = stream_pb2.StreamEnd.REASON_EXECUTION_FINISHED
    failed = execution_pb2.EXECUTION_STATE_FAILED
    written = frames.end(reason, 12, resumable=False, state=failed)
    frame = execution_service_pb2.ExecuteResponse.FromString(written).frame
    assert frame.end == stream_pb2.StreamEnd(reason=reason, through_sequence=12, state=failed)


def test_the_stream_of_many_executions_always_ends_resumable() -> None:
    written = frames.many_end(stream_pb2.StreamEnd.REASON_SERVER_DRAINING, "cursor", NOW)
    response = execution_service_pb2.WatchExecutionsResponse.FromString(written)
    assert response.cursor == "cursor"
    assert response.end == stream_pb2.StreamEnd(reason=stream_pb2.StreamEnd.REASON_SERVER_DRAINING, resumable=True)
