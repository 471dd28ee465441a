"""What happens to an execution between two turns of its executor."""

from __future__ import annotations

import asyncio

from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import EVENTS_PER_EXECUTION_MAX
from torana_server.execution.attempts import Outcome
from torana_server.execution.scheduler import Fact

BUFFER_EVENTS_MAX = 256
"""Events of steps that wait to be appended, per execution. A step that writes faster waits."""


class Inbox:
    """Collects facts that steps write, attempts that ended, commands and timers, and wakes the executor."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.requested = False
        self.admitted = False
        self.taken_events = 0
        """Towards the limit of an execution: those taken from here, and those that a recovered one had already."""
        self._written: list[Fact] = []
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
        written, self._written = self._written, []
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
        while len(self._written) >= BUFFER_EVENTS_MAX:
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
        self._written.append(fact)
        self.wake()

    def put_durably(self, fact: Fact) -> asyncio.Future[None]:
        """As `put`; done when the fact is durable."""
        self.put(fact)
        durable = asyncio.get_running_loop().create_future()
        self._durable.append(durable)
        return durable

    def offer(self, fact: Fact) -> bool:
        """False when the buffer is full or the limit of events is reached."""
        if len(self._written) >= BUFFER_EVENTS_MAX or self._spent():
            return False
        self._written.append(fact)
        self.wake()
        return True

    def _spent(self) -> bool:
        return self.taken_events + len(self._written) >= EVENTS_PER_EXECUTION_MAX


def resolve_all(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
