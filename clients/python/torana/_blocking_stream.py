"""Streams of the blocking client, over gRPC's blocking calls."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from torana._follow import FAREWELL_S, ExecutionFollower, FeedFollower, Follower, StreamCall
from torana._resume import Cut
from torana._status import error_from_call
from torana._types import Event, ExecutionResult
from torana._watchdog import Watchdog
from torana.errors import ToranaError

Followed = TypeVar("Followed", bound=Follower)
Leave = Callable[[], None]
OpenCall = Callable[[StreamCall], tuple[Any, Leave]]
"""Opens a call; the second of what it gives leaves the call's connection, so that later calls take a new one."""


class BlockingEventStream(Generic[Followed]):
    """Events as one flat iterator that survives broken connections.

    One thread reads it; `close()` from another thread ends that reading. Leave it with `with`, `close()` or by reading
    to the end.
    """

    def __init__(self, follower: Followed, open_call: OpenCall) -> None:
        self._follower = follower
        self._open_call = open_call
        self._call: Any = None
        self._leave: Leave | None = None
        self._is_silent = False
        self._watchdog = Watchdog()
        self._events: deque[Event] = deque()
        self._closed = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._closed.is_set():
            if self._events:
                return self._delivered(self._events.popleft())
            if self._follower.is_finished:
                self._take_leave()
                self.close()
            else:
                self._advance()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream, not the execution. Closing twice is fine."""
        self._closed.set()
        self._watchdog.close()
        self._cancel_call()

    def __del__(self) -> None:
        self.close()

    def _delivered(self, event: Event) -> Event:
        return event

    def _advance(self) -> None:
        """Reads one message, or goes through one loss with its pause."""
        try:
            self._events.extend(self._follower.take(self._receive()))
        except ToranaError as error:
            self._cancel_call()
            if not self._closed.is_set():
                self._recover(error)
        except BaseException:
            self.close()
            raise

    def _recover(self, error: ToranaError) -> None:
        try:
            pause_s = self._follower.lost(error, time.monotonic())
        except ToranaError:
            self.close()
            raise
        if self._is_silent and self._leave is not None:
            self._leave()  # a connection that only seems open would carry the next call nowhere, too
        self._is_silent = False
        self._closed.wait(pause_s)

    def _receive(self) -> Any:
        """The next message. Raises a ToranaError for every way to lose the stream."""
        now = time.monotonic()
        if self._call is None:
            self._call, self._leave = self._open_call(self._follower.attempt(now))
        call = self._call
        with self._watchdog.limit(self._follower.read_timeout_s(now), call.cancel) as is_overdue:
            try:
                return next(call)
            except StopIteration:
                raise Cut.NO_END.error from None
            except grpc.RpcError as failure:
                self._is_silent = is_overdue()
                raise Cut.SILENT.error if self._is_silent else error_from_call(failure) from failure

    def _take_leave(self) -> None:
        """The server has said everything but its status. Without it the server counts a call that was cancelled."""
        call = self._call
        if call is not None:
            with self._watchdog.limit(FAREWELL_S, call.cancel), contextlib.suppress(grpc.RpcError):
                next(call, None)

    def _cancel_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


class BlockingExecutionStream(BlockingEventStream[ExecutionFollower]):
    """The events of one execution, from `BlockingClient.execute` or `watch`. Ends after the terminal event.

    Iterating raises ConnectionLostError when reconnecting is given up, GapError when the server left events out,
    and the errors of Execute and WatchExecution.
    """

    def __init__(
        self,
        follower: ExecutionFollower,
        open_call: OpenCall,
        fetch_result: Callable[[str], ExecutionResult],
        after_sequence: int,
    ) -> None:
        super().__init__(follower, open_call)
        self._fetch_result = fetch_result
        self._last_sequence = after_sequence

    @property
    def execution_id(self) -> str:
        """Empty until the first frame has come."""
        return self._follower.execution_id

    @property
    def last_sequence(self) -> int:
        """Where to resume: `watch(execution_id, after_sequence=last_sequence)` misses nothing."""
        return self._last_sequence

    def result(self) -> ExecutionResult:
        """Reads what is left of the stream and returns how the execution ended.

        Outputs that the stream did not carry, because of a filter or a later start, are read from the server.
        """
        for _ in self:
            pass
        return self._follower.result or self._fetch_result(self.execution_id)

    def _delivered(self, event: Event) -> Event:
        # Behind the last event of a batch lie only events that the filter held back.
        self._last_sequence = event.sequence if self._events else self._follower.cursor
        return event


class BlockingExecutionFeed(BlockingEventStream[FeedFollower]):
    """The events of many executions, in order within each, from `BlockingClient.watch_executions`."""
