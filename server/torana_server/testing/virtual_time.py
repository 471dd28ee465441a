"""Time that jumps: it stands still while anything can happen, then moves to the next timer at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

from torana_server.core.clock import Clock, Micros, SystemClock, from_datetime, is_idle, seconds, to_datetime

T = TypeVar("T")

SOCKET_PATIENCE_S: Final = 0.02
"""Real seconds that time stands still for open sockets."""
THREAD_PATIENCE_S: Final = 5.0
"""Real seconds that time stands still for a call in a thread."""

_HOUSEKEEPING_CALLS: Final = frozenset({"_weakref_handle", "RequestHandler._process_keepalive"})
"""What aiohttp calls to close connections that are idle. Like the pauses that `core.clock.idle` marks, time does not
stop for them while there is nothing to find: otherwise a day would be a hundred thousand stops."""
_JUST_BEFORE_S: Final = 0.001
_LOOKS_MAX: Final = 10_000
"""How often the server may look for work in a row while nobody waits for a moment."""
_SELF_PIPE: Final = 1
"""Each loop watches one socket of its own, by which threads wake it."""


class StuckError(RuntimeError):
    """Everything waits for something that can never happen."""


class Guest(Protocol):
    """Something on the loop that time has to know about."""

    def calls_in_threads(self) -> int:
        """Calls that run in threads of its own, outside the loop's executor."""

    def has_work(self) -> bool:
        """Whether the server's housekeeping would find something to do."""


class _Housekeeping:
    """A timer's callback that time does not stop for."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[..., object]) -> None:
        self._callback = callback

    def __call__(self, *args: object) -> None:
        self._callback(*args)


_CLOCK: Final = "_torana_clock"
"""The attribute of an event loop that holds its clock: a mapping from loops would keep them alive."""
_guests: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[Guest]] = weakref.WeakKeyDictionary()


class VirtualClock:
    """The time of one event loop, and of everything that asks it: timers, `asyncio.sleep`, timeouts, the gateway.

    Time moves by itself whenever nothing on the loop can go on: to the next timer, at once. It waits for what
    happens outside the loop: as long as a call in a thread runs (up to `thread_patience_s` of real time, and not
    while that call itself waits for the loop), and `socket_patience_s` when sockets are open. `time.time()`,
    `datetime.now()` and threads know nothing of it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        start: Micros,
        loop_time_s: float,
        socket_patience_s: float = SOCKET_PATIENCE_S,
        thread_patience_s: float = THREAD_PATIENCE_S,
    ) -> None:
        selector = getattr(loop, "_selector", None)
        if not isinstance(loop, asyncio.BaseEventLoop) or selector is None:
            raise RuntimeError(
                f"virtual time needs an event loop of asyncio, not {type(loop).__module__}; run without it"
            )
        self._loop: Any = loop
        self._selector: Any = selector
        self._start = start
        self._loop_start_s = self._now_s = loop_time_s
        self._socket_patience_s = socket_patience_s
        self._thread_patience_s = thread_patience_s
        self._settling: list[asyncio.Future[None]] = []
        self._calls = 0
        self._submitted = 0
        self._given_up_calls = 0
        self._looks_in_vain = 0
        self._undo = contextlib.ExitStack()

    # what tests use

    def now(self) -> Micros:
        return Micros(self._start + seconds(self._loop.time() - self._loop_start_s))

    @property
    def datetime(self) -> datetime:
        """Now, in UTC."""
        return to_datetime(self.now())

    @property
    def elapsed_s(self) -> float:
        """Virtual seconds since this clock began."""
        return float(self._loop.time()) - self._loop_start_s

    async def advance(self, duration_s: float) -> None:
        """Lets this much time pass. Everything due by then happens, in order and each at its time."""
        if duration_s < 0:
            raise ValueError(f"time goes forward only, not by {duration_s:g} s")
        await asyncio.sleep(duration_s)
        await self.settled()

    async def settled(self) -> None:
        """Returns when nothing can go on without time passing."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._settling.append(waiter)
        await waiter

    # on and off

    def install(self) -> None:
        """Raises RuntimeError when the loop's time is virtual already."""
        known = _clock_of(self._loop)
        if known is not None and known.running:
            raise RuntimeError("the time of this event loop is virtual already; use the clock that it has")
        self._real_time: Callable[[], float] = self._loop.time
        self._real_select: Callable[[float | None], list[Any]] = self._selector.select
        self._real_call_at = self._loop.call_at
        self._real_executor = self._loop.run_in_executor
        self._real_submit = asyncio.run_coroutine_threadsafe
        self._overlay(self._loop, time=lambda: self._now_s)
        self._overlay(self._loop, call_at=self._call_at, run_in_executor=self._run_in_executor)
        self._overlay(self._selector, select=self._select)
        self._overlay(asyncio, run_coroutine_threadsafe=self._submit)
        vars(self._loop)[_CLOCK] = self

    def uninstall(self) -> None:
        """Time goes on from where it is, at its usual pace."""
        self._undo.close()
        ahead_s = self._now_s - self._real_time()
        real_time = self._real_time
        vars(self._loop)["time"] = lambda: real_time() + ahead_s
        self._real_time = self._loop.time

    @property
    def running(self) -> bool:
        return bool(self._selector.select == self._select)

    def _overlay(self, target: object, **names: object) -> None:
        """Puts these attributes on the object itself, above those of its class, until `uninstall`."""
        before = {name: vars(target)[name] for name in names if name in vars(target)}
        vars(target).update(names)
        self._undo.callback(_restore, target, names, before)

    # in the place of the loop's own

    def _select(self, timeout: float | None = None) -> list[Any]:
        self._given_up_calls = min(self._given_up_calls, self._outside_calls())
        ready = self._real_select(0)
        if ready or timeout == 0:
            return ready
        outside_s = self._patience()
        ready = self._real_select(outside_s) if outside_s else []
        if ready:
            return ready
        self._given_up_calls = self._outside_calls()
        if self._settling:
            for waiter in self._settling:
                if not waiter.done():
                    waiter.set_result(None)
            self._settling.clear()
            return []
        return self._jump(outside=outside_s > 0)

    def _jump(self, *, outside: bool) -> list[Any]:
        when = self._next_timer_s()
        if when is not None:
            self._now_s = max(self._now_s, self._due_at(when))
            return []
        if not outside:
            raise StuckError(f"nothing is ready and no timer is set: everything waits for ever\n{self._waiting()}")
        return self._real_select(None)

    def _due_at(self, when: float) -> float:
        """The first moment at which the loop takes a timer for due. After some months a float is coarser than what
        the loop adds to the time before it compares."""
        return when if when + self._loop._clock_resolution > when else math.nextafter(when, math.inf)

    def _next_timer_s(self) -> float | None:
        """When time stops next. Raises StuckError when the server looks for work for ever."""
        timers = [timer for timer in self._loop._scheduled if not timer.cancelled()]
        first: float | None = min((timer.when() for timer in timers), default=None)
        awaited: float | None = min(
            (t.when() for t in timers if not isinstance(t._callback, _Housekeeping)), default=None
        )
        guests = self._guests()
        if guests and not any(guest.has_work() for guest in guests):
            if first is None or awaited is None or first >= awaited - _JUST_BEFORE_S:
                return awaited
            return awaited - _JUST_BEFORE_S  # what was passed over happens first, all of it at once
        self._looks_in_vain = self._looks_in_vain + 1 if awaited is None else 0
        if self._looks_in_vain > _LOOKS_MAX:
            raise StuckError(f"executions wait for what this server does not have, for ever\n{self._waiting()}")
        return first

    def _patience(self) -> float:
        """How long something outside the loop may take before time moves without it."""
        if self._outside_calls() > self._given_up_calls:
            return self._thread_patience_s
        return self._socket_patience_s if len(self._selector.get_map()) > _SELF_PIPE or self._given_up_calls else 0.0

    def _outside_calls(self) -> int:
        """Calls in threads that do not wait for the loop themselves."""
        joining = self._loop._executor_shutdown_called and self._loop._default_executor is not None
        calls = self._calls + joining + sum(guest.calls_in_threads() for guest in self._guests())
        return max(0, calls - self._submitted)

    def _guests(self) -> list[Guest]:
        return _guests.get(self._loop, [])

    def _waiting(self) -> str:
        tasks = sorted(asyncio.all_tasks(self._loop), key=asyncio.Task.get_name)
        return "\n".join(f"  {task.get_name()}: {_place(task)}" for task in tasks)

    def _call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        if is_idle() or getattr(callback, "__qualname__", "") in _HOUSEKEEPING_CALLS:
            callback = _Housekeeping(callback)
        return self._real_call_at(when, callback, *args, context=context)

    def _run_in_executor(self, executor: Any, call: Callable[..., object], *args: object) -> Any:
        future = self._real_executor(executor, call, *args)
        self._calls += 1
        future.add_done_callback(self._returned)
        return future

    def _returned(self, _: object) -> None:
        self._calls -= 1

    def _submit(
        self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
    ) -> concurrent.futures.Future[T]:
        if loop is not self._loop:
            return self._real_submit(coroutine, loop)
        return self._real_submit(self._on_behalf(coroutine), loop)

    async def _on_behalf(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """On the loop, while the thread that asked for it waits."""
        self._submitted += 1
        try:
            return await coroutine
        finally:
            self._submitted -= 1


class LoopClock:
    """The wall clock of a server on one event loop: virtual while that loop's time is, the system's otherwise."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._system: Clock = SystemClock()

    def attach(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> Micros:
        virtual = None if self._loop is None else _clock_of(self._loop)
        return self._system.now() if virtual is None else virtual.now()


@contextlib.asynccontextmanager
async def virtual_time(
    start: datetime | None = None,
    *,
    socket_patience_s: float = SOCKET_PATIENCE_S,
    thread_patience_s: float = THREAD_PATIENCE_S,
) -> AsyncIterator[VirtualClock]:
    """Makes the time of the running event loop virtual: see `VirtualClock`. `start` is what its wall clock says first.

    Raises RuntimeError on an event loop that is not asyncio's own (uvloop), or whose time is virtual already.
    """
    loop = asyncio.get_running_loop()
    clock = VirtualClock(
        loop,
        start=from_datetime(start or datetime.now(UTC)),
        loop_time_s=loop.time(),
        socket_patience_s=socket_patience_s,
        thread_patience_s=thread_patience_s,
    )
    clock.install()
    try:
        yield clock
    finally:
        clock.uninstall()


def run_in_virtual_time(main: Coroutine[Any, Any, T], *, start: datetime | None = None) -> T:
    """`asyncio.run` on a loop whose time is virtual from its first moment, at 0, to its end."""
    began = from_datetime(start or datetime.now(UTC))

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        VirtualClock(loop, start=began, loop_time_s=0.0).install()
        return loop

    with contextlib.ExitStack() as stack:
        runner = asyncio.Runner(loop_factory=new_loop)
        clock = _clock_of(runner.get_loop())
        assert clock is not None, "its loop was made with one"
        stack.callback(clock.uninstall)
        return stack.enter_context(runner).run(main)


def current_clock() -> VirtualClock | None:
    """The virtual clock of the running event loop; None where there is none."""
    try:
        return _clock_of(asyncio.get_running_loop())
    except RuntimeError:  # no loop runs here
        return None


@contextlib.contextmanager
def guest_of_time(guest: Guest) -> Iterator[None]:
    """While it lasts, time on the running loop takes the guest into account."""
    guests = _guests.setdefault(asyncio.get_running_loop(), [])
    guests.append(guest)
    try:
        yield
    finally:
        guests.remove(guest)


def _restore(target: object, names: dict[str, object], before: dict[str, object]) -> None:
    for name in names:
        vars(target).pop(name, None)
    vars(target).update(before)


def _clock_of(loop: asyncio.AbstractEventLoop) -> VirtualClock | None:
    clock: VirtualClock | None = getattr(loop, _CLOCK, None)
    return clock


def _place(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack()
    if not frames:
        return "has ended"
    code = frames[-1].f_code
    return f"{code.co_qualname}, {code.co_filename}:{frames[-1].f_lineno}"
