"""What a stream does between two messages: the call to open, what a message means, when to go on.

A `Follower` has no input or output of its own. Both kinds of client drive it in the same way:

    while not follower.is_finished:
        call = open(follower.attempt(now))
        for message in call (at most follower.read_timeout_s(now) for each):
            events = follower.take(message)
        # on any loss or error
        sleep(follower.lost(error, now))
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import duration_pb2
from google.protobuf.message import Message

from torana import _native
from torana._requests import event_filter, sequence
from torana._result import ResultCollector
from torana._resume import Backoff, ExecutionResume, FeedResume
from torana._types import Event, ExecutionResult
from torana.errors import ToranaError
from torana.v1 import execution_pb2
from torana.v1 import execution_service_pb2 as service

FAREWELL_S = 1.0
"""How long a stream that is told whole waits for the status of its call."""


@dataclass(frozen=True, slots=True)
class StreamCall:
    """`method` is the path of the RPC, `response` the class of its messages."""

    method: str
    request: Message
    response: type[Message]


class Follower(Protocol):
    @property
    def is_finished(self) -> bool:
        """Everything was said; no further attempt is due."""
        ...

    def attempt(self, now: float) -> StreamCall:
        """The call to open next."""
        ...

    def read_timeout_s(self, now: float) -> float:
        """How long the next message may take. Raises DeadlineExceededError."""
        ...

    def take(self, message: Any) -> list[Event]:
        """The new events. Raises a ToranaError when the message ends the stream in any way but the good one."""
        ...

    def lost(self, error: ToranaError, now: float) -> float:
        """The pause in seconds before the next attempt. Raises when there shall be none."""
        ...


class ExecutionFollower:
    """Follows one execution: `Execute` until its id is known when there is a `request`, then `WatchExecution`."""

    def __init__(
        self,
        backoff: Backoff,
        *,
        request: execution_pb2.WorkflowRequest | None = None,
        execution_id: str = "",
        after_sequence: int = 0,
        kinds: Iterable[str] = (),
        steps: Iterable[str] = (),
        heartbeat_s: float,
    ) -> None:
        self._request = request
        self._filter = event_filter(kinds, steps)
        self._heartbeat = heartbeat(heartbeat_s)
        self._resume = ExecutionResume(
            backoff,
            execution_id=execution_id,
            after_sequence=sequence(after_sequence),
            filtered=bool(self._filter.kinds or self._filter.steps),
            heartbeat_s=heartbeat_s,
        )
        self._collector = ResultCollector()

    @property
    def is_finished(self) -> bool:
        return self._resume.is_finished

    @property
    def execution_id(self) -> str:
        return self._resume.execution_id

    @property
    def cursor(self) -> int:
        return self._resume.cursor

    @property
    def result(self) -> ExecutionResult | None:
        return self._collector.result()

    def attempt(self, now: float) -> StreamCall:
        self._resume.on_attempt(now)
        if self._request is not None and not self._resume.execution_id:
            return StreamCall(
                "/torana.v1.ExecutionService/Execute",
                service.ExecuteRequest(
                    request=self._request,
                    after_sequence=self._resume.cursor,
                    filter=self._filter,
                    heartbeat_interval=self._heartbeat,
                ),
                service.ExecuteResponse,
            )
        return StreamCall(
            "/torana.v1.ExecutionService/WatchExecution",
            service.WatchExecutionRequest(
                execution=self._resume.execution_id,
                after_sequence=self._resume.cursor,
                filter=self._filter,
                heartbeat_interval=self._heartbeat,
            ),
            service.WatchExecutionResponse,
        )

    def read_timeout_s(self, now: float) -> float:
        return self._resume.read_timeout_s(now)

    def take(self, message: Any) -> list[Event]:
        events = [_native.event(event) for event in self._resume.on_frame(message.frame)]
        for event in events:
            self._collector.add(event)
        return events

    def lost(self, error: ToranaError, now: float) -> float:
        return self._resume.on_lost(error, now)


class FeedFollower:
    """Follows the events of many executions; never finishes by itself."""

    is_finished = False

    def __init__(
        self,
        backoff: Backoff,
        *,
        filter: str = "",
        cursor: str = "",
        kinds: Iterable[str] = (),
        heartbeat_s: float,
    ) -> None:
        self._filter = filter
        self._kinds = event_filter(kinds, ()).kinds
        self._heartbeat = heartbeat(heartbeat_s)
        self._resume = FeedResume(backoff, cursor=cursor, heartbeat_s=heartbeat_s)

    @property
    def cursor(self) -> str:
        return self._resume.cursor

    def attempt(self, now: float) -> StreamCall:
        self._resume.on_attempt(now)
        return StreamCall(
            "/torana.v1.ExecutionService/WatchExecutions",
            service.WatchExecutionsRequest(
                cursor=self._resume.cursor,
                filter=self._filter,
                kinds=self._kinds,
                heartbeat_interval=self._heartbeat,
            ),
            service.WatchExecutionsResponse,
        )

    def read_timeout_s(self, now: float) -> float:
        return self._resume.read_timeout_s(now)

    def take(self, message: Any) -> list[Event]:
        before = self._resume.cursor
        messages = self._resume.on_message(message)
        # The server's cursor lies behind the whole batch: only the last event may carry it.
        cursors = [before] * (len(messages) - 1) + [self._resume.cursor]
        return [_native.event(event, cursor) for event, cursor in zip(messages, cursors, strict=False)]

    def lost(self, error: ToranaError, now: float) -> float:
        return self._resume.on_lost(error, now)


def heartbeat(interval_s: float) -> duration_pb2.Duration:
    return _native.duration(interval_s, "heartbeat_s")
