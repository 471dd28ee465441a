"""Attempts of steps: what one may write while it runs, and how it is started, stopped and abandoned."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torana_server.core import logs
from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import INLINE_VALUE_BYTES_MAX
from torana_server.core.lines import excerpt, shortened
from torana_server.core.values import Payload, decode_plain, encode, size_of
from torana_server.execution.events import Body, LogLevel, StepCheckpointed, StepEmitted, StepLog, StepProgress
from torana_server.execution.scheduler import Fact, StopReason
from torana_server.execution.text import is_storable, storable, unicode_text
from torana_server.steps import StepCall, StepResult, StepRunner

logger = logs.logger("execution")

LOG_CHARS_MAX = 8_000
TOPIC_CHARS_MAX = 256
ROUTE_CHARS_MAX = 256


@dataclass(slots=True)
class Attempt:
    """A running attempt. `call` is set once its code may have begun; `stopping` is why it was asked to end."""

    step: str
    number: int
    events: AttemptEvents
    task: asyncio.Task[None] | None = None
    call: StepCall | None = None
    stopping: StopReason | None = None
    grace: asyncio.TimerHandle | None = None


class Outcome(NamedTuple):
    """How an attempt ended: with a result or an error."""

    attempt: Attempt
    result: StepResult | None = None
    error: BaseException | None = None


class Buffer(Protocol):
    """Where attempts put what they write and how they ended: the execution's inbox."""

    async def room(self) -> None:
        """Waits while the buffer is full."""

    def put(self, fact: Fact) -> None:
        """Directly after `room`. Raises StepError (TOO_MANY_EVENTS)."""

    def put_durably(self, fact: Fact) -> asyncio.Future[None]:
        """As `put`; done when the fact is durable."""

    def offer(self, fact: Fact) -> bool:
        """Whether there was room."""

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
        body = StepProgress(fraction, self._text(message), data)
        self._buffer.put(await self._admitted(body))

    async def emit(self, topic: str, value: Payload) -> None:
        """Also raises ValueError for a topic that is too long."""
        if len(topic) > TOPIC_CHARS_MAX:
            raise ValueError(f"a topic has at most {TOPIC_CHARS_MAX} characters, not {len(topic)}")
        body = StepEmitted(self._text(topic), check_size(value))
        self._buffer.put(await self._admitted(body))

    async def checkpoint(self, value: Payload) -> None:
        body = StepCheckpointed(check_size(value))
        await self._buffer.put_durably(await self._admitted(body))

    def log(self, level: int, message: str, data: Mapping[str, object] | None = None) -> None:
        self._refuse_when_over()
        payload = self._excerpt(data) if data else None
        self._offer(StepLog(_level(level), self._text(message), self._dropped, payload))

    async def record(self, message: str, data: Mapping[str, object]) -> None:
        """For debug mode: waits for room, and counts as lost what the execution's limit of events leaves out."""
        await self._buffer.room()
        if not self._closed:
            self._offer(StepLog(LogLevel.DEBUG, message, self._dropped, self._excerpt(data)))

    def lost(self) -> StepLog | None:
        """What says how many lines were dropped since the last one that was not."""
        if not self._dropped:
            return None
        return StepLog(LogLevel.WARNING, "the last lines of this attempt were dropped", self._dropped)

    def _offer(self, line: StepLog) -> None:
        if self._buffer.offer(Fact(line, self._step, self._attempt)):
            self._dropped = 0
        else:
            self._dropped += 1

    def _excerpt(self, data: Mapping[str, object]) -> Payload:
        try:
            shown = excerpt(data, self._redact, escape=unicode_text)
        except Exception as error:  # noqa: BLE001 — a mapping of the step's own; to log must not fail
            shown = {"unreadable": type(error).__name__}
        return Payload(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))

    async def _admitted(self, body: Body) -> Fact:
        """Once there is room. The attempt may end while its code waits for that."""
        self._refuse_when_over()
        await self._buffer.room()
        self._refuse_when_over()
        return Fact(body, self._step, self._attempt)

    def _refuse_when_over(self) -> None:
        if self._closed:
            raise StepError(
                f"attempt {self._attempt} of step {self._step!r} is over; what it does now has no effect",
                reason=Reason.STEP_TIMEOUT,
                metadata={"step": self._step, "attempt": str(self._attempt)},
            )

    def _text(self, text: str) -> str:
        return storable(shortened(text, self._redact, LOG_CHARS_MAX), LOG_CHARS_MAX)


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
        assert attempt.task is not None
        if attempt.stopping is not None or attempt.task.done():
            return
        attempt.stopping = reason
        attempt.task.cancel()
        if attempt.call is None:
            # A task that is cancelled before its first turn runs nothing, so it cannot say that it ended.
            self._buffer.ended(Outcome(attempt, error=asyncio.CancelledError()))
            return
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

    async def end_all(self) -> None:
        """The execution leaves this server: what still runs has no effect any more, but may clean up for the grace."""
        attempts, self._running = self._running, {}
        tasks: dict[asyncio.Task[None], Attempt] = {}
        for attempt in attempts.values():
            attempt.events.close()
            if attempt.grace is not None:
                attempt.grace.cancel()
            assert attempt.task is not None
            attempt.task.cancel()
            tasks[attempt.task] = attempt
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._cancel_grace_s)
            for task in late:
                self._give_up_on(tasks[task])

    async def _run(self, attempt: Attempt) -> None:
        started = time.perf_counter()
        outcome: Outcome | None = None
        try:
            attempt.call = call = self._call(attempt.step, attempt.number)
            logs.enter(call)
            logger.debug("step started")
            if call.debug:
                await attempt.events.record("what the attempt was given", _given(call))
            result = await self._runner.run(call, attempt.events)
            check_size(result.output)
            if result.route:
                _check_route(result.route)
            outcome = Outcome(attempt, result=result)
            if call.debug:
                await attempt.events.record("what the attempt returned", _returned(result))
        except KeyboardInterrupt:
            raise  # the operator's, not the step's
        except BaseException as error:  # noqa: BLE001 — a task's boundary: whatever it is becomes the step's error
            outcome = outcome or Outcome(attempt, error=error)
        attempt.events.close()
        self._buffer.ended(outcome)
        if logger.isEnabledFor(logging.DEBUG):
            _log_end(outcome, time.perf_counter() - started)

    def _abandon(self, attempt: Attempt) -> None:
        self._give_up_on(attempt)
        self._buffer.ended(Outcome(attempt, error=asyncio.CancelledError("abandoned")))

    def _give_up_on(self, attempt: Attempt) -> None:
        place = {"step": attempt.step, "attempt": attempt.number}
        logger.warning("the step ignored its cancellation for %g s", self._cancel_grace_s, extra=place)
        attempt.events.close()
        if attempt.call is not None:
            self._runner.abandon(attempt.call)


def _given(call: StepCall) -> dict[str, object]:
    """The inputs, and the config where templates filled it in."""
    rendered = {} if call.config == call.step.config else {"config": call.config}
    return {"inputs": decode_plain(encode(call.inputs)), **rendered}


def _returned(result: StepResult) -> dict[str, object]:
    route = {"route": result.route} if result.route else {}
    return {"output": decode_plain(result.output), **route}


def _log_end(outcome: Outcome, duration_s: float) -> None:
    fields: dict[str, object] = {"duration_ms": round(duration_s * 1_000, 3)}
    if outcome.error is None:
        logger.debug("step completed", extra=fields)
    else:
        fields["error_type"] = type(outcome.error).__name__
        logger.debug("step ended without a result: %s", outcome.error, extra=fields)


def check_size(value: Payload) -> Payload:
    """Raises StepError (VALUE_TOO_LARGE) for a value above the inline limit, the types beside it included."""
    # A character takes at most four bytes, so a short text needs no second look.
    if not value.types and 4 * len(value.json) <= INLINE_VALUE_BYTES_MAX:
        return value
    size = size_of(value)
    if size > INLINE_VALUE_BYTES_MAX:
        raise StepError(
            f"a value of {size} bytes is above the limit of {INLINE_VALUE_BYTES_MAX}; store it elsewhere and hand on "
            "a reference, or split it",
            reason=Reason.VALUE_TOO_LARGE,
            metadata={"sizeBytes": str(size), "limitBytes": str(INLINE_VALUE_BYTES_MAX)},
        )
    return value


def _check_route(route: object) -> None:
    """A step type of an operator's own may name anything."""
    if not isinstance(route, str) or len(route) > ROUTE_CHARS_MAX or not is_storable(route):
        raise StepError(
            f"a route is a Unicode text of at most {ROUTE_CHARS_MAX} characters, not {ascii(route)[:200]}",
            reason=Reason.VALUE_NOT_STORABLE,
            metadata={"path": "route", "type": type(route).__name__},
        )


def _level(level: int) -> LogLevel:
    """From the numbers of `logging`, in steps of ten."""
    return LogLevel(min(max(level // 10, LogLevel.DEBUG), LogLevel.ERROR))
