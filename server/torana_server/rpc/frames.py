"""The bytes of stream messages, made of the bytes that the journal holds.

An event was serialised when it was journaled and is never parsed here. A message of a stream is written around it:

    ExecuteResponse, WatchExecutionResponse  { 1: StreamFrame { 1: opened | 2: batch | 3: heartbeat | 4: end }}
    EventBatch                               { 1: event, 1: event, …, 2: after_sequence, 3: through_sequence }
    WatchExecutionsResponse                  { 1: event, 1: event, …, 2: cursor, 3: end, 4: server_time }

An event is the bytes of an ExecutionEvent; the sequences are varints, left out when 0.

`N:` is a field: a varint of (number << 3 | wire type), then a varint of the length for what is length-delimited. The
result is byte for byte what the generated classes serialise.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from torana.v1 import execution_pb2, execution_service_pb2, stream_pb2
from torana_server.adapters.wire.messages import timestamp
from torana_server.core.clock import Micros

FINISHED = stream_pb2.StreamEnd.REASON_EXECUTION_FINISHED

_FRAME = b"\x0a"
_OPENED = b"\x0a"
_BATCH = b"\x12"
_HEARTBEAT = b"\x1a"
_END = b"\x22"
_EVENT = b"\x0a"
_AFTER = b"\x10"
_THROUGH = b"\x18"


def opened(
    execution: str, *, oldest_sequence: int, latest_sequence: int, heartbeat_interval: Duration, attached: bool
) -> bytes:
    """The first message of an execution's stream."""
    frame = stream_pb2.StreamOpened(
        execution=execution,
        oldest_sequence=oldest_sequence,
        latest_sequence=latest_sequence,
        heartbeat_interval=heartbeat_interval,
        attached=attached,
    )
    return _framed(_OPENED, frame.SerializeToString())


def batch(events: Iterable[bytes], after_sequence: int, through_sequence: int) -> bytes:
    """Serialised events of one execution, in order."""
    parts = _events(events)
    if after_sequence:
        parts += (_AFTER, varint(after_sequence))
    if through_sequence:
        parts += (_THROUGH, varint(through_sequence))
    return _framed(_BATCH, b"".join(parts))


def heartbeat(through_sequence: int, server_time: Micros) -> bytes:
    frame = stream_pb2.Heartbeat(through_sequence=through_sequence, server_time=timestamp(server_time))
    return _framed(_HEARTBEAT, frame.SerializeToString())


def end(
    reason: stream_pb2.StreamEnd.Reason.ValueType,
    through_sequence: int,
    *,
    resumable: bool = False,
    state: execution_pb2.ExecutionState.ValueType = execution_pb2.EXECUTION_STATE_UNSPECIFIED,
    status: Message | None = None,
) -> bytes:
    """The last message of an execution's stream. `status` is a google.rpc.Status."""
    frame = stream_pb2.StreamEnd(
        reason=reason, through_sequence=through_sequence, resumable=resumable, state=state, status=status
    )
    return _framed(_END, frame.SerializeToString())


def many(events: Iterable[bytes], cursor: str, server_time: Micros) -> bytes:
    """A WatchExecutionsResponse; without events it is the heartbeat of that stream."""
    rest = execution_service_pb2.WatchExecutionsResponse(cursor=cursor, server_time=timestamp(server_time))
    return b"".join((*_events(events), rest.SerializeToString()))


def many_end(
    reason: stream_pb2.StreamEnd.Reason.ValueType, cursor: str, server_time: Micros, *, status: Message | None = None
) -> bytes:
    """The last WatchExecutionsResponse. That stream never ends for good."""
    return execution_service_pb2.WatchExecutionsResponse(
        cursor=cursor,
        end=stream_pb2.StreamEnd(reason=reason, resumable=True, status=status),
        server_time=timestamp(server_time),
    ).SerializeToString()


def varint(value: int) -> bytes:
    """Base 128, low bits first. `value` is not negative."""
    if value < 0x80:
        return _SMALL[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


_SMALL = tuple(bytes((value,)) for value in range(0x80))


def _events(events: Iterable[bytes]) -> list[bytes]:
    parts: list[bytes] = []
    for event in events:
        parts += (_EVENT, varint(len(event)), event)
    return parts


def _framed(kind: bytes, content: bytes) -> bytes:
    """ExecuteResponse and WatchExecutionResponse, which are the same on the wire, around one kind of frame."""
    head = kind + varint(len(content))
    return b"".join((_FRAME, varint(len(head) + len(content)), head, content))
