"""Notices steps that hold the event loop."""

from __future__ import annotations

import asyncio
import linecache
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Final

from torana_server.core import logs
from torana_server.steps.context import CURRENT_STEP, StepContext
from torana_server.steps.ports import StepCall
from torana_server.steps.runner import InProcessRunner
from torana_server.steps.source import FILENAME_START

logger = logs.logger("steps")

THRESHOLD_S: Final = 0.1
INTERVAL_S: Final = 0.02
REPEAT_S: Final = 10.0
"""A step is warned about once in this time."""
STEPS_MAX: Final = 1_000
"""Names kept in the statistics."""
UNKNOWN: Final = "unknown"

_DRIVER: Final[CodeType] = InProcessRunner.run.__code__
_SERVER_FOLDER: Final = os.path.dirname(os.path.dirname(__file__)) + os.sep


@dataclass(frozen=True, slots=True)
class Held:
    """What holds the loop: a step (`workflow.step`) or `unknown`, its execution where known, and the line it is at."""

    step: str
    execution: str
    line: str


@dataclass(frozen=True, slots=True)
class LoopStats:
    """`blocked_by` counts by `workflow.step`; `unknown` is what held the loop outside any step."""

    lag_ms_max: float
    blocked_count: int
    blocked_by: Mapping[str, int]


class LoopWatchdog:
    """Warns when something holds the event loop for longer than `threshold_s`, and names the step.

    A timer on the loop leaves its time behind; a daemon thread looks at that time, and when it is too old, at what
    the loop's thread is doing at that moment. So it costs steps nothing, and names one that never yields.
    """

    def __init__(self, *, threshold_s: float = THRESHOLD_S, interval_s: float = INTERVAL_S) -> None:
        self._threshold_s = threshold_s
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._reported_due = 0.0
        self._lag_s_max = 0.0
        self._blocked_by: Counter[str] = Counter()
        self._blocked_count = 0
        self._warned_at: dict[str, float] = {}

    def start(self) -> None:
        """Watches the running loop, from its own thread."""
        if self._thread is not None:
            raise RuntimeError("the watchdog runs already")
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stop.clear()
        self._schedule()
        self._thread = threading.Thread(target=self._watch, name="torana-loop-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def stats(self) -> LoopStats:
        return LoopStats(self._lag_s_max * 1000, self._blocked_count, dict(self._blocked_by))

    # on the loop

    def _schedule(self) -> None:
        self._due = time.monotonic() + self._interval_s
        self._timer = self._loop.call_later(self._interval_s, self._beat)

    def _beat(self) -> None:
        lag_s = time.monotonic() - self._due
        self._lag_s_max = max(self._lag_s_max, lag_s)
        if lag_s > self._threshold_s and self._reported_due != self._due:
            # Over before the thread could look: C code held it together with the interpreter lock.
            self._report(Held(UNKNOWN, "", ""), lag_s)
        self._schedule()

    # on the watching thread

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            due = self._due
            lag_s = time.monotonic() - due
            if lag_s > self._threshold_s and due != self._reported_due:
                self._reported_due = due
                self._lag_s_max = max(self._lag_s_max, lag_s)
                frame = sys._current_frames().get(self._loop_thread)
                self._report(what_holds(frame, asyncio.current_task(self._loop)), lag_s)

    # on either

    def _report(self, held: Held, lag_s: float) -> None:
        with self._lock:
            self._blocked_count += 1
            name = held.step if held.step in self._blocked_by or len(self._blocked_by) < STEPS_MAX else UNKNOWN
            self._blocked_by[name] += 1
            now = time.monotonic()
            if now - self._warned_at.get(name, -REPEAT_S) < REPEAT_S:
                return
            self._warned_at[name] = now
        logger.warning(
            "the event loop has been held for %.0f ms by %s%s",
            lag_s * 1000,
            f"step {held.step}" if held.step != UNKNOWN else "something outside any step",
            f", at {held.line}" if held.line else "",
            extra={"step": held.step, "execution": held.execution, "lag_ms": round(lag_s * 1000)},
        )


def what_holds(frame: FrameType | None, task: asyncio.Task[object] | None) -> Held:
    """Which step a loop's thread, now at `frame` and in `task`, is running.

    The step's own task has the runner on its stack. In a task that the step started, its context variables tell
    (Python 3.12 and later), or the file name of a source step.
    """
    frames = list(_outwards(frame))
    own = next((f for f in frames if f.f_code.co_filename.startswith(FILENAME_START)), None)
    for number, outer in enumerate(frames):
        if outer.f_code is _DRIVER:
            call: StepCall = outer.f_locals["call"]
            line = _line(own or _outermost_foreign(frames[:number]) or frame)
            return Held(f"{call.workflow}.{call.step.name}", call.execution, line)
    ctx = _step_of(task)
    if ctx is not None:
        return Held(f"{ctx.workflow_name}.{ctx.step_name}", ctx.execution_id, _line(own or frame))
    if own is not None:
        name = own.f_code.co_filename.removeprefix(FILENAME_START).removesuffix(">").partition("@")[0]
        return Held(name, "", _line(own))
    return Held(UNKNOWN, "", _line(frame))


def _step_of(task: asyncio.Task[object] | None) -> StepContext | None:
    if sys.version_info >= (3, 12):
        return None if task is None else task.get_context().get(CURRENT_STEP)
    return None


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _outermost_foreign(frames: list[FrameType]) -> FrameType | None:
    """The step's own frame: the outermost that is not of the server."""
    return next((f for f in reversed(frames) if not f.f_code.co_filename.startswith(_SERVER_FOLDER)), None)


def _line(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    filename = frame.f_code.co_filename
    text = linecache.getline(filename, frame.f_lineno).strip()
    return f"{os.path.basename(filename)}:{frame.f_lineno} in {frame.f_code.co_name}: {text}"
