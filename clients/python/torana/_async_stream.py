"""Streams of the asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc.aio

from torana._follow import FAREWELL_S, ExecutionFollower, FeedFollower, Follower, StreamCall
from torana._resume import Cut
from torana._status import error_from_call
from torana._types import Event, ExecutionResult
from torana.errors import ToranaError

Followed = TypeVar("Followed", bound=Follower)
Leave = Callable[[], Awaitable[None]]
OpenCall = Callable[[StreamCall], tuple["grpc.aio.UnaryStreamCall[Any, Any]", Leave]]
"""Opens a call; the second of what it gives leaves the call's connection, so that later calls take a new one."""


class EventStream(Generic[Followed]):
    """Events as one flat iterator that survives broken connections.

    One task reads it. Leave it with `async with`, `aclose()` or by reading to the end: a stream that is only dropped
    stays open on the server until the garbage collector finds it.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, follower: Followed, open_call: OpenCall) -> None:
        self._follower = follower
        self._open_call = open_call
        self._call: grpc.aio.UnaryStreamCall[Any, Any] | None = None
        self._messages: AsyncIterator[Any] | None = None
        self._leave: Leave | None = None
        self._is_silent = False
        self._events: deque[Event] = deque()
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._is_closed:
            if self._events:
                return self._delivered(self._events.popleft())
            if self._follower.is_finished:
                await self._take_leave()
                await self.aclose()
            else:
                await self._advance()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the stream, not the execution. Closing twice is fine."""
        self._is_closed = True
        self._cancel_call()

    def __del__(self) -> None:
        # The collector may run in any thread, and after the loop has ended.
        if self._call is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call.cancel)

    def _delivered(self, event: Event) -> Event:
        return event

    async def _advance(self) -> None:
        """Reads one message, or goes through one loss with its pause."""
        try:
            self._events.extend(self._follower.take(await self._receive()))
        except ToranaError as error:
            self._cancel_call()
            await self._recover(error)
        except BaseException:
            await self.aclose()
            raise

    async def _recover(self, error: ToranaError) -> None:
        try:
            pause_s = self._follower.lost(error, time.monotonic())
        except ToranaError:
            await self.aclose()
            raise
        if self._is_silent and self._leave is not None:
            await self._leave()  # a connection that only seems open would carry the next call nowhere, too
        self._is_silent = False
        await asyncio.sleep(pause_s)

    async def _receive(self) -> Any:
        """The next message. Raises a ToranaError for every way to lose the stream."""
        now = time.monotonic()
        if self._messages is None:
            self._loop = asyncio.get_running_loop()
            self._call, self._leave = self._open_call(self._follower.attempt(now))
            self._messages = aiter(self._call)
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(self._follower.read_timeout_s(now)):
                return await anext(self._messages)
        except TimeoutError:
            self._is_silent = True
            raise Cut.SILENT.error from None
        except StopAsyncIteration:
            raise Cut.NO_END.error from None
        except grpc.aio.AioRpcError as failure:
            raise error_from_call(failure) from failure
        except asyncio.CancelledError:
            # gRPC raises this too when the other side cancelled the call; our own task was then not asked to stop.
            if task is None or task.cancelling():
                raise
            raise Cut.RESET.error from None

    async def _take_leave(self) -> None:
        """The server has said everything but its status. Without it the server counts a call that was cancelled."""
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(FAREWELL_S):
                if self._messages is not None:
                    await anext(self._messages, None)
        except (TimeoutError, grpc.aio.AioRpcError):
            return
        except asyncio.CancelledError:
            if task is None or task.cancelling():
                raise

    def _cancel_call(self) -> None:
        call, self._call, self._messages = self._call, None, None
        if call is not None:
            call.cancel()


class ExecutionStream(EventStream[ExecutionFollower]):
    """The events of one execution, from `Client.execute` or `Client.watch`. Ends after the terminal event.

    Iterating raises ConnectionLostError when reconnecting is given up, GapError when the server left events out,
    and the errors of Execute and WatchExecution.
    """

    def __init__(
        self,
        follower: ExecutionFollower,
        open_call: OpenCall,
        fetch_result: Callable[[str], Awaitable[ExecutionResult]],
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

    async def result(self) -> ExecutionResult:
        """Reads what is left of the stream and returns how the execution ended.

        Outputs that the stream did not carry, because of a filter or a later start, are read from the server.
        """
        async for _ in self:
            pass
        return self._follower.result or await self._fetch_result(self.execution_id)

    def _delivered(self, event: Event) -> Event:
        # Behind the last event of a batch lie only events that the filter held back.
        self._last_sequence = event.sequence if self._events else self._follower.cursor
        return event


class ExecutionFeed(EventStream[FeedFollower]):
    """The events of many executions, in order within each, from `Client.watch_executions`. Never ends by itself."""
