"""Attempts of steps: what one may write while it runs, and how it is started, stopped and abandoned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import INLINE_VALUE_BYTES_MAX
from torana_server.core.values import Payload
from torana_server.execution.events import Body, LogLevel, StepCheckpointed, StepEmitted, StepLog, StepProgress
from torana_server.execution.scheduler import Fact, StopReason
from torana_server.steps import StepCall, StepResult, StepRunner

logger = logging.getLogger("torana.execution")

LOG_CHARS_MAX = 8_000


@dataclass(slots=True)
class Attempt:
    """A running attempt. `stopping` is why it was asked to end, once it was."""

    step: str
    number: int
    events: AttemptEvents
    task: asyncio.Task[None] | None = None
    stopping: StopReason | None = None
    grace: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with a result or an error."""

    attempt: Attempt
    result: StepResult | None = None
    error: BaseException | None = None


class Buffer(Protocol):
    """Where attempts put what they write and how they ended: the execution's inbox."""

    async def put(self, fact: Fact) -> None: ...

    def offer(self, fact: Fact) -> bool: ...

    async def put_durably(self, fact: Fact) -> None: ...

    def ended(self, outcome: Outcome) -> None: ...


class AttemptEvents:
    """`StepEvents` of one attempt. After `close` every call is refused: the attempt is over."""

    __slots__ = ("_attempt", "_buffer", "_closed", "_dropped", "_redact", "_step")

    def __init__(self, buffer: Buffer, step: str, attempt: int, redact: Callable[[str], str]) -> None:
        self._buffer = buffer
        self._step = step
        self._attempt = attempt
        self._redact = redact
        self._closed = False
        self._dropped = 0

    def close(self) -> None:
        self._closed = True

    async def progress(self, fraction: float, message: str, data: Payload | None) -> None:
        if data is not None:
            check_size(data)
        await self._buffer.put(self._fact(StepProgress(fraction, self._text(message), data)))

    async def emit(self, topic: str, value: Payload) -> None:
        await self._buffer.put(self._fact(StepEmitted(topic, check_size(value))))

    async def checkpoint(self, value: Payload) -> None:
        await self._buffer.put_durably(self._fact(StepCheckpointed(check_size(value))))

    def log(self, level: int, message: str) -> None:
        line = StepLog(_level(level), self._text(message), self._dropped)
        if self._buffer.offer(self._fact(line)):
            self._dropped = 0
        else:
            self._dropped += 1

    def _fact(self, body: Body) -> Fact:
        if self._closed:
            raise StepError(
                f"attempt {self._attempt} of step {self._step!r} is over; what it does now has no effect",
                reason=Reason.STEP_TIMEOUT,
            )
        return Fact(body, self._step, self._attempt)

    def _text(self, text: str) -> str:
        return self._redact(text)[:LOG_CHARS_MAX]


class Attempts:
    """The attempts of one execution that run now."""

    def __init__(
        self,
        runner: StepRunner,
        buffer: Buffer,
        call: Callable[[str, int], StepCall],
        redact: Callable[[str], str],
        cancel_grace_s: float,
    ) -> None:
        self._runner = runner
        self._buffer = buffer
        self._call = call
        self._redact = redact
        self._cancel_grace_s = cancel_grace_s
        self._running: dict[str, Attempt] = {}

    def __bool__(self) -> bool:
        return bool(self._running)

    def start(self, step: str, number: int) -> None:
        attempt = Attempt(step, number, AttemptEvents(self._buffer, step, number, self._redact))
        self._running[step] = attempt
        attempt.task = asyncio.get_running_loop().create_task(self._run(attempt), name=f"step {step}")

    def stop(self, step: str, reason: StopReason) -> None:
        """Asks the attempt to end; abandons it after the grace. Idempotent."""
        attempt = self._running[step]
        if attempt.stopping is not None:
            return
        attempt.stopping = reason
        assert attempt.task is not None
        attempt.task.cancel()
        attempt.grace = asyncio.get_running_loop().call_later(self._cancel_grace_s, self._abandon, attempt)

    def settle(self, outcome: Outcome) -> bool:
        """Forgets the attempt. False when it was abandoned before: its outcome counts for nothing."""
        attempt = outcome.attempt
        if self._running.get(attempt.step) is not attempt:
            return False
        del self._running[attempt.step]
        if attempt.grace is not None:
            attempt.grace.cancel()
        return True

    def abandon_all(self) -> None:
        """The execution leaves this server: whatever still runs has no effect any more."""
        for attempt in self._running.values():
            attempt.events.close()
            if attempt.grace is not None:
                attempt.grace.cancel()
            if attempt.task is not None:
                attempt.task.cancel()
        self._running.clear()

    async def _run(self, attempt: Attempt) -> None:
        try:
            result = await self._runner.run(self._call(attempt.step, attempt.number), attempt.events)
            check_size(result.output)
            outcome = Outcome(attempt, result=result)
        except asyncio.CancelledError as error:
            outcome = Outcome(attempt, error=error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 — a task's boundary: it becomes the step's error
            outcome = Outcome(attempt, error=error)
        attempt.events.close()
        self._buffer.ended(outcome)

    def _abandon(self, attempt: Attempt) -> None:
        logger.warning("step %s ignored its cancellation for %g s", attempt.step, self._cancel_grace_s)
        attempt.events.close()
        self._buffer.ended(Outcome(attempt, error=asyncio.CancelledError("abandoned")))


def check_size(value: Payload) -> Payload:
    """Raises StepError (VALUE_TOO_LARGE) for a value above the inline limit, the types beside it included."""
    types = sum(len(key) + len(name) for key, name in value.types.items())
    # A character takes at most four bytes, so a short text needs no second look.
    if 4 * (len(value.json) + types) <= INLINE_VALUE_BYTES_MAX:
        return value
    size = len(value.json.encode()) + 4 * types
    if size > INLINE_VALUE_BYTES_MAX:
        raise StepError(
            f"a value of {size} bytes is above the limit of {INLINE_VALUE_BYTES_MAX}; store it elsewhere and hand on "
            "a reference, or split it",
            reason=Reason.VALUE_TOO_LARGE,
            metadata={"sizeBytes": str(size), "limitBytes": str(INLINE_VALUE_BYTES_MAX)},
        )
    return value


def _level(level: int) -> LogLevel:
    """From the numbers of `logging`, in steps of ten."""
    return LogLevel(min(max(level // 10, LogLevel.DEBUG), LogLevel.ERROR))
