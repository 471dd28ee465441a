"""Streams of events: their frames, their bounds, and their end when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from torana.v1 import execution_pb2, stream_pb2
from torana_server.adapters.wire.messages import duration
from torana_server.core.clock import Clock
from torana_server.core.errors import ExhaustedError, Reason, UnavailableError
from torana_server.execution import EventKind, Watch, WatchAll
from torana_server.rpc import frames
from torana_server.rpc.calls import current
from torana_server.rpc.checks import Checks
from torana_server.rpc.paging import Query
from torana_server.rpc.settings import HEARTBEAT_S_MAX, HEARTBEAT_S_MIN, RpcSettings
from torana_server.rpc.status import code_of, to_status

TERMINAL_STATES: Final = {
    EventKind.EXECUTION_COMPLETED: execution_pb2.EXECUTION_STATE_COMPLETED,
    EventKind.EXECUTION_FAILED: execution_pb2.EXECUTION_STATE_FAILED,
    EventKind.EXECUTION_CANCELLED: execution_pb2.EXECUTION_STATE_CANCELLED,
}
_End = stream_pb2.StreamEnd


class Stoppable(Protocol):
    def stop(self) -> None:
        """Makes whoever waits for the next events go on without any."""


class OpenStreams:
    """Counts streams of events, bounds their number and ends them all when the server drains."""

    def __init__(self, streams_max: int) -> None:
        self._streams_max = streams_max
        self._watches: set[Stoppable] = set()
        self._open = 0
        self._draining = False

    def __len__(self) -> int:
        return self._open

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one stream. Raises ExhaustedError (TOO_MANY_STREAMS), UnavailableError (SERVER_DRAINING)."""
        if self._draining:
            raise UnavailableError(
                "the server is shutting down; try again, another one will answer",
                reason=Reason.SERVER_DRAINING,
                retry_after_s=1.0,
            )
        if self._open >= self._streams_max:
            raise ExhaustedError(
                f"all {self._streams_max} streams of this server are in use; try again later, or poll GetExecution",
                reason=Reason.TOO_MANY_STREAMS,
                metadata={"limit": str(self._streams_max)},
                retry_after_s=5.0,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    @contextmanager
    def holding(self, watch: Stoppable) -> Iterator[None]:
        """`watch` is stopped when the server drains."""
        self._watches.add(watch)
        if self._draining:
            watch.stop()
        try:
            yield
        finally:
            self._watches.discard(watch)

    def drain(self) -> None:
        """Ends every stream and takes no new one."""
        self._draining = True
        for watch in list(self._watches):
            watch.stop()


@dataclass(frozen=True, slots=True)
class Pace:
    """When a stream says that it lives, and when it must end. In seconds; `deadline_s` is of the loop's clock."""

    heartbeat_s: float
    deadline_s: float

    def wait_s(self) -> float:
        """How long to wait for events. Not positive once the stream is over."""
        return min(self.heartbeat_s, self.deadline_s - asyncio.get_running_loop().time())

    @property
    def interval(self) -> Duration:
        return duration(self.heartbeat_s)

    @property
    def is_over(self) -> bool:
        return asyncio.get_running_loop().time() >= self.deadline_s


def pace_of(request_interval: Duration | None, settings: RpcSettings, checks: Checks) -> Pace:
    heartbeat_s = settings.heartbeat_interval_s
    if request_interval is not None:
        heartbeat_s = checks.duration(
            "heartbeat_interval", request_interval, seconds_min=HEARTBEAT_S_MIN, seconds_max=HEARTBEAT_S_MAX
        )
    return Pace(heartbeat_s, asyncio.get_running_loop().time() + settings.stream_age_s_max)


Send = Callable[[bytes], Awaitable[None]]
"""Writes one message of the stream; returns when there is room for the next."""


async def follow(watch: Watch, pace: Pace, clock: Clock, send: Send) -> None:
    """Sends batches and heartbeats, then the end of the stream; nothing at all for a watch that has ended already.

    An error in between is told within the stream, too, since not every transport keeps trailers.
    """
    try:
        while not watch.ended:
            wait_s = pace.wait_s()
            if wait_s <= 0:
                await send(frames.end(_End.REASON_MAX_STREAM_AGE, watch.position, resumable=True))
                return
            batch = await watch.next(wait_s)
            if batch is not None:
                events = [event.data for event in batch.events]
                await send(frames.batch(events, batch.after_sequence, batch.through_sequence))
                if batch.terminal:
                    state = TERMINAL_STATES[batch.events[-1].kind]
                    await send(frames.end(_End.REASON_EXECUTION_FINISHED, batch.through_sequence, state=state))
            elif watch.draining:
                await send(frames.end(_End.REASON_SERVER_DRAINING, watch.position, resumable=True))
                return
            elif not pace.is_over:
                await send(frames.heartbeat(watch.mark(), clock.now()))
    except Exception as error:
        resumable = code_of(error) is grpc.StatusCode.UNAVAILABLE
        await send(frames.end(_End.REASON_ERROR, watch.through_sequence, resumable=resumable, status=_status(error)))
        raise


async def follow_all(watch: WatchAll, pace: Pace, clock: Clock, query: Query) -> AsyncGenerator[bytes, None]:
    """As `follow`, for many executions. The first message tells the cursor of the beginning."""
    yield frames.many((), query.token(str(watch.position)), clock.now())
    try:
        while not pace.is_over:
            events = await watch.next(pace.wait_s())
            if watch.draining and not events:
                break
            if events or not pace.is_over:
                cursor = query.token(str(watch.position))
                yield frames.many([found.event.data for found in events], cursor, clock.now())
    except Exception as error:
        yield frames.many_end(_End.REASON_ERROR, query.token(str(watch.position)), clock.now(), status=_status(error))
        raise
    reason = _End.REASON_SERVER_DRAINING if watch.draining else _End.REASON_MAX_STREAM_AGE
    yield frames.many_end(reason, query.token(str(watch.position)), clock.now())


def _status(error: Exception) -> Message:
    status: Message = to_status(error, current().request_id, current().attached)
    return status
