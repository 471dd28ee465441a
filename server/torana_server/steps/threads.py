"""Threads for plain `def` steps.

Not `concurrent.futures`: its threads are joined when the interpreter exits, so one step that never returns would keep
a drained server alive. These are daemon threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from torana_server.core import logs
from torana_server.core.errors import StepError

logger = logs.logger("steps")


@dataclass(frozen=True, slots=True)
class ThreadStats:
    """`abandoned` calls ignored their cancellation and still hold a thread; `busy` includes them."""

    size: int
    started: int
    busy: int
    waiting: int
    abandoned: int


class _Call:
    """One call on its way through the pool. `started` and `dropped` are decided under the pool's lock."""

    __slots__ = ("abandoned", "context", "dropped", "function", "future", "loop", "started")

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.context = contextvars.copy_context()
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[object] = self.loop.create_future()
        self.started = False
        self.dropped = False
        self.abandoned = False

    def run(self) -> None:
        try:
            result = self.context.run(self.function)
        except (StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
            # Each of these means something to the event loop that the step did not say.
            refused = StepError(f"the step raised {type(error).__name__}, which has no meaning outside its thread")
            refused.__cause__ = error
            self._deliver(self._fail, refused)
        except BaseException as error:  # noqa: BLE001 — a thread's boundary: it is raised where the call is awaited
            self._deliver(self._fail, error)
        else:
            self._deliver(self._succeed, result)

    def _deliver(self, settle: Callable[..., None], outcome: object) -> None:
        try:
            self.loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("a step's thread ended after the server's event loop")

    def _succeed(self, result: object) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class StepThreads:
    """At most `size` daemon threads, started when needed; calls beyond them wait in order.

    A call that is abandoned holds its thread until it returns.
    """

    def __init__(self, size: int = 16) -> None:
        if size < 1:
            raise ValueError(f"the pool needs at least one thread, not {size}")
        self._size = size
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._busy = 0
        self._waiting = 0
        self._abandoned = 0
        self._closed = False

    async def run(self, function: Callable[[], object], *, grace_s: float) -> object:
        """What `function` returns or raises, called in a thread with a copy of the current context variables.

        When cancelled, a call that has not begun is dropped; one that runs gets `grace_s` to return, then is
        abandoned. Its result is dropped either way, and CancelledError raised.
        """
        call = self._submit(function)
        try:
            await asyncio.wait([call.future])
        except asyncio.CancelledError:
            await self._stop(call, grace_s)
            raise
        return call.future.result()

    def stats(self) -> ThreadStats:
        with self._lock:
            return ThreadStats(self._size, self._started, self._busy, self._waiting, self._abandoned)

    def close(self) -> None:
        """Idle threads end; busy ones end with their call. Waits for nothing."""
        with self._lock:
            self._closed = True
            threads = self._started
        for _ in range(threads):
            self._calls.put(None)

    def _submit(self, function: Callable[[], object]) -> _Call:
        call = _Call(function)
        with self._lock:
            if self._closed:
                raise StepError("the server is closing and runs no further steps", retryable=True)
            self._waiting += 1
            grow = self._busy + self._waiting > self._started and self._started < self._size
            self._started += grow
            number = self._started
        self._calls.put(call)
        if grow:
            threading.Thread(target=self._work, name=f"torana-step-{number}", daemon=True).start()
        return call

    async def _stop(self, call: _Call, grace_s: float) -> None:
        with self._lock:
            if not call.started:
                call.dropped = True
                self._waiting -= 1
                return
        try:
            await asyncio.wait([call.future], timeout=grace_s)
        finally:
            self._leave(call)

    def _leave(self, call: _Call) -> None:
        if not call.future.cancel():
            call.future.exception()  # retrieved, since nobody else will
            return
        with self._lock:
            call.abandoned = True
            self._abandoned += 1
            busy = self._busy
        logger.warning(
            "a step ignored its cancellation and was abandoned; its thread is lost until it returns (%d of %d busy)",
            busy,
            self._size,
        )

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._begin(call):
                call.run()
                self._end(call)
            del call  # an idle thread keeps nothing of the last call alive

    def _begin(self, call: _Call) -> bool:
        with self._lock:
            if call.dropped:
                return False
            call.started = True
            self._waiting -= 1
            self._busy += 1
            return True

    def _end(self, call: _Call) -> None:
        with self._lock:
            self._busy -= 1
            self._abandoned -= call.abandoned
