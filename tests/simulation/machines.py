"""Simulated processes: each has an event loop of its own, and one seed decides who goes on and in which order.

A process that is killed goes on nowhere: not one of its callbacks, timers or `finally` blocks runs any more. A process
that is paused keeps everything, and finds its timers late when it goes on. Time is virtual and moves only when nobody
can go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from torana_server.core.clock import Micros

EPOCH: Final = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, when every simulation begins."""
BURST_CALLBACKS_MAX: Final = 12
"""How many callbacks of one process may run before another one's."""
LAST_TURNS_MAX: Final = 20_000


class _Task(asyncio.Task[Any]):
    """Hashes by its number: sets of tasks are iterated in an order that the seed alone decides."""

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class Machine(asyncio.BaseEventLoop):
    """One process: what asyncio needs of a loop, without files, sockets and threads."""

    _ready: Any
    _scheduled: Any

    def __init__(self, universe: Universe, name: str) -> None:
        super().__init__()
        self._universe = universe
        self._tasks: dict[_Task, None] = {}
        self.name = name
        self.alive = True
        self.paused_until_s = 0.0
        self.fuse = -1
        """Callbacks that still run before the process dies; it lives on while this is negative."""
        self.burned: Callable[[], None] = self.kill
        """What happens then."""
        self.defects: list[str] = []

    def time(self) -> float:
        return self._universe.now_s

    def create_task(self, coro: Any, *, name: object = None, context: Any = None) -> Any:
        task = _Task(self._universe.number(), coro, loop=self, name=name and str(name), context=context)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def create_future(self) -> Any:
        return _Future(self._universe.number(), self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        coroutine = getattr(task.get_coro(), "__qualname__", "") if isinstance(task, asyncio.Task) else type(task)
        self.defects.append(f"{context.get('message')}: {context.get('exception')!r} in {coroutine}")

    @property
    def tasks(self) -> list[str]:
        return sorted(task.get_name() for task in self._tasks)

    # --- how it goes on -----------------------------------------------------------------------------------------

    @property
    def awake(self) -> bool:
        return self.paused_until_s <= self._universe.now_s

    @property
    def can_go_on(self) -> bool:
        return bool(self._ready) and self.awake

    def next_s(self) -> float | None:
        """When it can go on next, with nothing to do now."""
        timers = self._scheduled
        while timers and timers[0].cancelled():
            heapq.heappop(timers)._scheduled = False
        if self._ready:
            return self.paused_until_s
        return max(timers[0].when(), self.paused_until_s) if timers else None

    def wake_timers(self) -> None:
        now, timers = self._universe.now_s, self._scheduled
        while timers and timers[0].when() <= now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer.cancelled():
                self._ready.append(timer)

    def go_on(self, chance: random.Random) -> None:
        """Runs some of what can run, in any order."""
        ready = self._ready
        with running(self):
            for _ in range(chance.randrange(1, BURST_CALLBACKS_MAX)):
                if self.fuse == 0:
                    self.burned()
                if not ready or not self.alive:
                    return
                self.fuse -= self.fuse > 0
                index = int(chance.random() * len(ready))
                handle = ready[index]
                del ready[index]
                if not handle.cancelled():
                    handle._run()

    def kill(self) -> None:
        self.fuse = -1
        if self.alive:
            self.alive = False
            self._universe.machines.remove(self)
            self._universe.buried.append(self)

    def dispose(self) -> None:
        """Lets go of everything that was in hand when it died; nothing of this can be seen from outside."""
        with running(self):
            for _ in range(LAST_TURNS_MAX):
                if not self._tasks:
                    break
                if not self._ready:
                    for task in list(self._tasks):
                        task.cancel()
                while self._ready:
                    handle = self._ready.popleft()
                    if not handle.cancelled():
                        handle._run()
        assert not self._tasks, f"{self.name} cannot let go of {self.tasks}"
        self.close()


class Universe:
    """Time, chance, and everything that happens between processes."""

    def __init__(self, seed: int | str) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self.machines: list[Machine] = []
        self.buried: list[Machine] = []
        self._happenings: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = 0
        self.callbacks = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    @property
    def now(self) -> Micros:
        return Micros(EPOCH + round(self.now_s * 1_000_000))

    def machine(self, name: str) -> Machine:
        machine = Machine(self, name)
        self.machines.append(machine)
        return machine

    def later(self, delay_s: float, happening: Callable[..., None], *args: Any) -> None:
        """Something outside of all processes, such as a message on its way."""
        heapq.heappush(self._happenings, (self.now_s + delay_s, self.number(), happening, args))

    def new_id(self) -> str:
        """A UUIDv7 of this time and chance."""
        value = (self.now // 1_000) << 80 | self.chance.getrandbits(80)
        value = value & ~(0xF << 76) | 0x7 << 76
        value = value & ~(0x3 << 62) | 0x2 << 62
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def run(self, done: Callable[[], bool], until_s: float) -> bool:
        """Until it is done, or it is that late. Whether it is done."""
        while not done():
            able = [machine for machine in self.machines if machine._ready and machine.paused_until_s <= self.now_s]
            if able:
                machine = able[int(self.chance.random() * len(able))] if len(able) > 1 else able[0]
                machine.go_on(self.chance)
            elif not self._advance(until_s):
                return False
        return True

    def _advance(self, until_s: float) -> bool:
        at_s = self._happenings[0][0] if self._happenings else until_s
        for machine in self.machines:
            next_s = machine.next_s()
            if next_s is not None and next_s < at_s:
                at_s = next_s
        if at_s >= until_s:
            return False
        self.now_s = max(self.now_s, at_s)
        while self._happenings and self._happenings[0][0] <= self.now_s:
            _, _, happening, args = heapq.heappop(self._happenings)
            happening(*args)
        for machine in self.machines:
            if machine.awake:
                machine.wake_timers()
        return True

    def end(self) -> None:
        for machine in list(self.machines):
            machine.kill()
        for machine in self.buried:
            machine.dispose()


@contextlib.contextmanager
def running(machine: Machine) -> Iterator[None]:
    """Code in here runs on the loop of this machine."""
    asyncio._set_running_loop(machine)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)
