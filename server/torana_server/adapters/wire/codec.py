"""`EventCodec`: events as `torana.v1.ExecutionEvent`. What the journal holds is what the stream sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError, Message

from torana.v1 import event_pb2 as pb
from torana.v1 import payload_pb2
from torana_server.adapters.wire.messages import (
    error_from_message,
    error_to_message,
    micros,
    payload_from_message,
    payload_to_message,
    request_from_message,
    request_to_message,
    timestamp,
)
from torana_server.core.clock import MICROS_PER_SECOND
from torana_server.core.values import Payload
from torana_server.execution import events as ev


class WireCodec:
    """Pure. Bytes that are no event, and kinds that a newer server wrote, raise ValueError."""

    def encode(self, execution: str, event: ev.Event) -> bytes:
        field, to_message = _ENCODERS[type(event.body)]
        body: dict[str, Any] = {field: to_message(event.body)}
        message = pb.ExecutionEvent(
            execution=execution, sequence=event.sequence, step=event.step, attempt=event.attempt, **body
        )
        at = event.time
        message.time.seconds = at // MICROS_PER_SECOND
        message.time.nanos = at % MICROS_PER_SECOND * 1000
        return message.SerializeToString()

    def decode(self, data: bytes) -> ev.Event:
        try:
            message = pb.ExecutionEvent.FromString(data)
        except DecodeError as error:
            raise ValueError("the bytes are not an event") from error
        field = message.WhichOneof("kind")
        if field is None:
            raise ValueError(f"event {message.sequence} is of a kind this server does not know")
        body = _DECODERS[field](getattr(message, field))
        return ev.Event(message.sequence, micros(message.time), message.step, message.attempt, body)


def _accepted(body: ev.Accepted) -> Message:
    return pb.ExecutionAccepted(
        request=request_to_message(body.request),
        revision=body.revision,
        journal_format=body.journal_format,
        subject=body.subject,
        retry_of=body.retry_of,
        tenant=body.tenant,
    )


def _optional(payload: Payload | None) -> payload_pb2.Payload | None:
    return None if payload is None else payload_to_message(payload)


def _progress(body: ev.StepProgress) -> Message:
    return pb.StepProgress(fraction=body.fraction, message=body.message, data=_optional(body.data))


def _retrying(body: ev.StepRetrying) -> Message:
    return pb.StepRetrying(error=error_to_message(body.error), next_attempt_time=timestamp(body.next_attempt_time))


def _reused(body: ev.StepReused) -> Message:
    return pb.StepReused(
        execution=body.execution,
        sequence=body.sequence,
        output=payload_to_message(body.output),
        route=body.route,
    )


def _log_level(number: int) -> ev.LogLevel:
    """Levels that a newer server knows count as the nearest of this one's."""
    return ev.LogLevel(min(max(number, ev.LogLevel.DEBUG), ev.LogLevel.ERROR))


_STARTED = pb.ExecutionStarted()
_STEP_SCHEDULED = pb.StepScheduled()
_STEP_STARTED = pb.StepStarted()

_ENCODERS: dict[type[Any], tuple[str, Callable[[Any], Message]]] = {
    ev.Accepted: ("accepted", _accepted),
    ev.Started: ("started", lambda _: _STARTED),
    ev.StepScheduled: ("step_scheduled", lambda _: _STEP_SCHEDULED),
    ev.StepStarted: ("step_started", lambda _: _STEP_STARTED),
    ev.StepProgress: ("step_progress", _progress),
    ev.StepLog: (
        "step_log",
        lambda b: pb.StepLog(level=b.level.value, message=b.message, dropped=b.dropped, data=_optional(b.data)),
    ),
    ev.StepEmitted: (
        "step_emitted",
        lambda b: pb.StepEmitted(topic=b.topic, value=payload_to_message(b.value)),
    ),
    ev.StepCheckpointed: (
        "step_checkpointed",
        lambda b: pb.StepCheckpointed(value=payload_to_message(b.value)),
    ),
    ev.StepRetrying: ("step_retrying", _retrying),
    ev.StepCompleted: (
        "step_completed",
        lambda b: pb.StepCompleted(output=payload_to_message(b.output), route=b.route),
    ),
    ev.StepFailed: (
        "step_failed",
        lambda b: pb.StepFailed(error=error_to_message(b.error), handled=b.handled),
    ),
    ev.StepSkipped: ("step_skipped", lambda b: pb.StepSkipped(reason=b.reason)),
    ev.StepCancelled: ("step_cancelled", lambda b: pb.StepCancelled(reason=b.reason)),
    ev.StepReused: ("step_reused", _reused),
    ev.Recovered: ("recovered", lambda b: pb.ExecutionRecovered(by=b.by)),
    ev.Cancelling: (
        "cancelling",
        lambda b: pb.ExecutionCancelling(reason=b.reason, subject=b.subject),
    ),
    ev.Completed: ("completed", lambda b: pb.ExecutionCompleted(outputs=b.outputs)),
    ev.Failed: (
        "failed",
        lambda b: pb.ExecutionFailed(error=error_to_message(b.error), outputs=b.outputs),
    ),
    ev.Cancelled: (
        "cancelled",
        lambda b: pb.ExecutionCancelled(reason=b.reason, outputs=b.outputs),
    ),
}

_DECODERS: dict[str, Callable[[Any], ev.Body]] = {
    "accepted": lambda m: ev.Accepted(
        request_from_message(m.request), m.revision, m.tenant, m.subject, m.retry_of, m.journal_format
    ),
    "started": lambda m: ev.Started(),
    "step_scheduled": lambda m: ev.StepScheduled(),
    "step_started": lambda m: ev.StepStarted(),
    "step_progress": lambda m: ev.StepProgress(
        m.fraction, m.message, payload_from_message(m.data) if m.HasField("data") else None
    ),
    "step_log": lambda m: ev.StepLog(
        _log_level(m.level), m.message, m.dropped, payload_from_message(m.data) if m.HasField("data") else None
    ),
    "step_emitted": lambda m: ev.StepEmitted(m.topic, payload_from_message(m.value)),
    "step_checkpointed": lambda m: ev.StepCheckpointed(payload_from_message(m.value)),
    "step_retrying": lambda m: ev.StepRetrying(error_from_message(m.error), micros(m.next_attempt_time)),
    "step_completed": lambda m: ev.StepCompleted(payload_from_message(m.output), m.route),
    "step_failed": lambda m: ev.StepFailed(error_from_message(m.error), m.handled),
    "step_skipped": lambda m: ev.StepSkipped(m.reason),
    "step_cancelled": lambda m: ev.StepCancelled(m.reason),
    "step_reused": lambda m: ev.StepReused(m.execution, m.sequence, payload_from_message(m.output), m.route),
    "recovered": lambda m: ev.Recovered(m.by),
    "cancelling": lambda m: ev.Cancelling(m.reason, m.subject),
    "completed": lambda m: ev.Completed(dict(m.outputs)),
    "failed": lambda m: ev.Failed(error_from_message(m.error), dict(m.outputs)),
    "cancelled": lambda m: ev.Cancelled(m.reason, dict(m.outputs)),
}
