"""How a client follows a stream across broken connections, without any input or output.

The drivers in `_stream_async` and `_stream_blocking` only open calls, read messages and sleep, as told from here.
Rules, the same for every client (the streaming contract in docs/):

- What is lost and worth another attempt: UNAVAILABLE; RESOURCE_EXHAUSTED with RetryInfo; a reset (CANCELLED that this
  client did not ask for, INTERNAL about RST_STREAM); a silent stream; an end without StreamEnd; a resumable StreamEnd.
- Everything else is final.
- Pauses: full jitter under a bound that grows from 0.1 s by 1.6 to 30 s and starts again after a new event; a server's
  RetryInfo comes on top.
- A stream may be lost for `max_reconnect_s` without an event or heartbeat in between, and `connect_timeout_s` before
  the first frame ever.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from torana._status import error_from_status
from torana._types import TERMINAL_KINDS
from torana.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    GapError,
    InternalError,
    ToranaError,
    UnavailableError,
)
from torana.v1 import event_pb2, execution_service_pb2, stream_pb2

GROWTH = 1.6
SILENT_INTERVALS = 2.5
"""A stream is lost when nothing came for so many heartbeat intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """How patiently a stream is followed. All in seconds.

    `initial_s` and `max_s` bound the random pause between attempts. `connect_timeout_s` bounds the wait for the first
    frame ever, all attempts together; `max_reconnect_s` the time without a sign of life after that.
    """

    initial_s: float = 0.1
    max_s: float = 30.0
    connect_timeout_s: float = 30.0
    max_reconnect_s: float = 300.0


class Backoff:
    """When to try again, and when to stop. `uniform(low, high)` and the `now` of every call come from outside."""

    def __init__(
        self,
        policy: ReconnectPolicy,
        uniform: Callable[[float, float], float],
        *,
        deadline_s: float | None = None,
    ) -> None:
        self._policy = policy
        self._uniform = uniform
        self._deadline_s = deadline_s
        self._deadline: float | None = None
        self._bound_s = policy.initial_s
        self._lost_since: float | None = None
        self._started = False
        self._opened = False

    def on_attempt(self, now: float) -> None:
        if not self._started:
            self._started = True
            self._lost_since = now
            self._deadline = None if self._deadline_s is None else now + self._deadline_s

    def on_opened(self) -> None:
        if not self._opened:
            self._opened = True
            self._lost_since = None

    def on_alive(self) -> None:
        self._lost_since = None

    def on_event(self) -> None:
        self._lost_since = None
        self._bound_s = self._policy.initial_s

    def read_timeout_s(self, silence_s: float, now: float) -> float:
        """How long to wait for the next message. Raises DeadlineExceededError."""
        if self._deadline is None:
            return silence_s
        if now >= self._deadline:
            raise DeadlineExceededError("the deadline of this call passed; executions go on without it")
        return min(silence_s, self._deadline - now)

    def first_silence_s(self, heartbeat_s: float) -> float:
        """How long an attempt may take to its first frame."""
        return min(self._policy.connect_timeout_s, heartbeat_s * SILENT_INTERVALS)

    def pause_s(self, error: ToranaError, now: float) -> float:
        """The pause before the next attempt. Raises `error`, or what it amounts to, when there shall be none."""
        if not is_worth_another_attempt(error):
            raise error
        if self._lost_since is None:
            self._lost_since = now
        allowed_s = self._policy.max_reconnect_s if self._opened else self._policy.connect_timeout_s
        remaining_s = self._lost_since + allowed_s - now
        asked_s = error.retry_after_s or 0.0
        if remaining_s <= 0 or asked_s > remaining_s:
            raise error
        pause_s = asked_s + min(self._uniform(0.0, self._bound_s), remaining_s)
        self._bound_s = min(self._bound_s * GROWTH, self._policy.max_s)
        return pause_s if self._deadline is None else self.read_timeout_s(pause_s, now)


def is_worth_another_attempt(error: ToranaError) -> bool:
    match error.code:
        case grpc.StatusCode.UNAVAILABLE:
            return True
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return error.retry_after_s is not None
        case grpc.StatusCode.CANCELLED:
            return not error.reason
        case grpc.StatusCode.INTERNAL:
            return not error.reason and "RST_STREAM" in error.message
        case _:
            return False


class Cut(enum.Enum):
    """Ways to lose a stream that are no status of a call."""

    SILENT = "nothing came from the server in time, not even a heartbeat"
    NO_END = "the stream ended without saying why"
    RESET = "the call was cancelled by the other side"

    @property
    def error(self) -> ToranaError:
        return UnavailableError(self.value, code=grpc.StatusCode.UNAVAILABLE)


class ExecutionResume:
    """Follows one execution: which call to open next, and which events are new.

    Before the first frame `execution_id` may be empty: `Execute` is then repeated with the same idempotency key;
    afterwards `WatchExecution` goes on after `cursor`.
    """

    def __init__(
        self,
        backoff: Backoff,
        *,
        execution_id: str = "",
        after_sequence: int = 0,
        filtered: bool = False,
        heartbeat_s: float = 15.0,
    ) -> None:
        self._backoff = backoff
        self._filtered = filtered
        self._asked_heartbeat_s = heartbeat_s
        self._silence_s = backoff.first_silence_s(heartbeat_s)
        self.execution_id = execution_id
        self.cursor = after_sequence
        self._terminal_seen = False
        self.is_finished = False

    def on_attempt(self, now: float) -> None:
        self._backoff.on_attempt(now)
        self._silence_s = self._backoff.first_silence_s(self._asked_heartbeat_s)

    def read_timeout_s(self, now: float) -> float:
        return self._backoff.read_timeout_s(self._silence_s, now)

    def on_frame(self, frame: stream_pb2.StreamFrame) -> list[event_pb2.ExecutionEvent]:
        """The new events in the frame. Raises GapError, or the error the stream ended with when it is final."""
        match frame.WhichOneof("kind"):
            case "opened":
                self._on_opened(frame.opened)
            case "batch":
                return self._on_batch(frame.batch)
            case "heartbeat":
                self._backoff.on_alive()
                self._advance(frame.heartbeat.through_sequence)
            case "end":
                self._on_end(frame.end)
        return []

    def on_lost(self, error: ToranaError, now: float) -> float:
        """The pause in seconds before the next attempt. Raises when there shall be none, unless all was said."""
        if self._terminal_seen:
            self.is_finished = True
            return 0.0
        try:
            return self._backoff.pause_s(error, now)
        except UnavailableError as final:
            raise self._given_up(final) from final.__cause__

    def _given_up(self, error: UnavailableError) -> UnavailableError:
        lost = ConnectionLostError(
            f"the connection was lost and reconnecting was given up: {error.message}",
            reason=error.reason,
            metadata=error.metadata,
            code=error.code,
            request_id=error.request_id,
            retry_after_s=error.retry_after_s,
        )
        lost.execution_id = self.execution_id
        lost.last_sequence = self.cursor
        return lost

    def _on_opened(self, opened: stream_pb2.StreamOpened) -> None:
        self.execution_id = opened.execution or self.execution_id
        if opened.HasField("heartbeat_interval"):
            self._silence_s = opened.heartbeat_interval.ToTimedelta().total_seconds() * SILENT_INTERVALS
        else:
            self._silence_s = self._asked_heartbeat_s * SILENT_INTERVALS
        self._backoff.on_opened()

    def _on_batch(self, batch: stream_pb2.EventBatch) -> list[event_pb2.ExecutionEvent]:
        if batch.after_sequence > self.cursor:
            raise self._gap(batch.after_sequence + 1)
        new = [event for event in batch.events if event.sequence > self.cursor]
        for event in new:
            self._advance(event.sequence - 1)
            self.cursor = event.sequence
        self._advance(batch.through_sequence)
        if new:
            self._backoff.on_event()
            self._terminal_seen = new[-1].WhichOneof("kind") in TERMINAL_KINDS
        else:
            self._backoff.on_alive()
        return new

    def _on_end(self, end: stream_pb2.StreamEnd) -> None:
        if end.reason == stream_pb2.StreamEnd.REASON_EXECUTION_FINISHED:
            self._advance(end.through_sequence)
            self.is_finished = True
        else:
            raise error_of_end(end)

    def _advance(self, sequence: int) -> None:
        """Everything up to `sequence` that was asked for has come; without a filter that is everything."""
        if sequence > self.cursor:
            if not self._filtered:
                raise self._gap(sequence)
            self.cursor = sequence

    def _gap(self, sequence: int) -> GapError:
        return GapError(
            f"the stream of execution {self.execution_id} went from event {self.cursor} to {sequence} and left out "
            "what lies between; this is a defect of the server"
        )


class FeedResume:
    """Follows the events of many executions by the server's opaque cursor."""

    def __init__(self, backoff: Backoff, *, cursor: str = "", heartbeat_s: float = 15.0) -> None:
        self._backoff = backoff
        self._heartbeat_s = heartbeat_s
        self._silence_s = backoff.first_silence_s(heartbeat_s)
        self.cursor = cursor

    def on_attempt(self, now: float) -> None:
        self._backoff.on_attempt(now)
        self._silence_s = self._backoff.first_silence_s(self._heartbeat_s)

    def read_timeout_s(self, now: float) -> float:
        return self._backoff.read_timeout_s(self._silence_s, now)

    def on_message(self, message: execution_service_pb2.WatchExecutionsResponse) -> list[event_pb2.ExecutionEvent]:
        """The events of the message. Raises the error the stream ended with."""
        self._silence_s = self._heartbeat_s * SILENT_INTERVALS
        self._backoff.on_opened()
        self.cursor = message.cursor or self.cursor
        if message.events:
            self._backoff.on_event()
        elif message.HasField("end"):
            raise error_of_end(message.end)
        else:
            self._backoff.on_alive()
        return list(message.events)

    def on_lost(self, error: ToranaError, now: float) -> float:
        """The pause in seconds before the next attempt. Raises when there shall be none."""
        return self._backoff.pause_s(error, now)


def error_of_end(end: stream_pb2.StreamEnd) -> ToranaError:
    """What a StreamEnd before the end of the execution amounts to: a lost stream when it is resumable."""
    known = end.reason in stream_pb2.StreamEnd.Reason.values()
    reason = stream_pb2.StreamEnd.Reason.Name(end.reason) if known else f"reason {end.reason}"
    error = error_from_status(end.status) if end.HasField("status") else None
    if end.resumable:
        retry_after_s = error.retry_after_s if error else None
        message = f"the server ended the stream: {reason}"
        return UnavailableError(message, code=grpc.StatusCode.UNAVAILABLE, retry_after_s=retry_after_s)
    return error or InternalError(f"the server ended the stream before the execution ended: {reason}")
