"""What happens to an execution between two turns of its executor."""

from __future__ import annotations

import asyncio

from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import EVENTS_PER_EXECUTION_MAX, MIB
from torana_server.execution.attempts import Outcome
from torana_server.execution.events import Body, StepCheckpointed, StepEmitted, StepLog, StepProgress
from torana_server.execution.scheduler import Fact

BUFFER_EVENTS_MAX = 256
"""Events of steps that wait to be appended, per execution. A step that writes faster waits."""
BUFFER_CHARS_MAX = 1 * MIB
"""Characters of text and JSON in them; the event that passes this bound is the last to be taken."""


class Inbox:
    """Collects facts that steps write, attempts that ended, commands and timers, and wakes the executor."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.requested = False
        self.admitted = False
        self.taken_events = 0
        """Towards the limit of an execution: those taken from here, and those that a recovered one had already."""
        self._written: list[Fact] = []
        self._written_chars = 0
        self._durable: list[asyncio.Future[None]] = []
        self._room: list[asyncio.Future[None]] = []
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until something happened since the last wait."""
        if not self._woken:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        self._woken = False

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.wake()

    def take_outcomes(self) -> list[Outcome]:
        taken, self.outcomes = self.outcomes, []
        return taken

    def take_written(self) -> tuple[list[Fact], list[asyncio.Future[None]]]:
        """What steps wrote, and who waits for it to be durable. Makes room."""
        written, self._written, self._written_chars = self._written, [], 0
        durable, self._durable = self._durable, []
        self.taken_events += len(written)
        room, self._room = self._room, []
        resolve_all(room)
        return written, durable

    def close(self) -> None:
        """Nobody takes from here any more: whoever waits is cancelled."""
        for waiter in (*self._room, *self._durable):
            waiter.cancel()

    async def room(self) -> None:
        """Waits while the buffer is full."""
        while self._is_full():
            room = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room

    def put(self, fact: Fact) -> None:
        """Directly after `room`. Raises StepError (TOO_MANY_EVENTS)."""
        if self._spent():
            raise StepError(
                f"the steps of an execution may write {EVENTS_PER_EXECUTION_MAX} events; write fewer, larger ones",
                reason=Reason.TOO_MANY_EVENTS,
                metadata={"limit": str(EVENTS_PER_EXECUTION_MAX)},
            )
        self._add(fact)

    def put_durably(self, fact: Fact) -> asyncio.Future[None]:
        """As `put`; done when the fact is durable."""
        self.put(fact)
        durable = asyncio.get_running_loop().create_future()
        self._durable.append(durable)
        return durable

    def offer(self, fact: Fact) -> bool:
        """False when the buffer is full or the limit of events is reached."""
        if self._is_full() or self._spent():
            return False
        self._add(fact)
        return True

    def _add(self, fact: Fact) -> None:
        self._written.append(fact)
        self._written_chars += _chars_in(fact.body)
        self.wake()

    def _is_full(self) -> bool:
        return len(self._written) >= BUFFER_EVENTS_MAX or self._written_chars >= BUFFER_CHARS_MAX

    def _spent(self) -> bool:
        return self.taken_events + len(self._written) >= EVENTS_PER_EXECUTION_MAX


def _chars_in(body: Body) -> int:
    match body:
        case StepLog(message=text, data=payload) | StepProgress(message=text, data=payload):
            return len(text) + (0 if payload is None else len(payload.json))
        case StepEmitted(value=payload) | StepCheckpointed(value=payload):
            return len(payload.json)
        case _:
            return 0


def resolve_all(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
