"""Making an execution's events durable: at once, or together where its durability policy allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torana_server.core import logs
from torana_server.core.clock import Micros, seconds
from torana_server.core.errors import StaleAppendError, UnavailableError
from torana_server.execution.events import TERMINAL_KINDS, EventKind
from torana_server.execution.patience import patiently
from torana_server.execution.ports import ExecutionState, Journal, StoredEvent, Transition
from torana_server.execution.state import State
from torana_server.workflow import Durability, Plan

logger = logs.logger("execution")

DEFERRED_S_MAX = 1.0
"""How long the looser durability policies hold events back."""

_DEFERRABLE = frozenset({EventKind.STEP_STARTED, EventKind.STEP_COMPLETED, EventKind.STEP_SKIPPED})


class Appender:
    """Appends the turns of one execution in order. Up to `durable_sequence` the journal has them (P1).

    `found` is told of events that turn out to be durable although the journal never said so: it may not have told its
    listener either.
    """

    def __init__(
        self, journal: Journal, execution: str, plan: Plan, found: Callable[[Sequence[StoredEvent]], None]
    ) -> None:
        self._journal = journal
        self._execution = execution
        self._plan = plan
        self._found = found
        self._deferred: list[StoredEvent] = []
        self._deferred_since: Micros | None = None
        self._completions = 0
        self._status = ExecutionState.QUEUED
        self.fence = 0
        self.durable_sequence = 0
        self.ended = False

    def begin(self, fence: int, state: State) -> None:
        """What led to `state` is durable already, under this fence."""
        self.fence = fence
        self._made_durable(state)

    @property
    def flush_at(self) -> Micros | None:
        """When what is held back must be written."""
        return None if self._deferred_since is None else Micros(self._deferred_since + seconds(DEFERRED_S_MAX))

    async def write(self, events: list[StoredEvent], state: State, now: Micros, *, at_once: bool) -> bool:
        """Takes the events that led to `state`. Returns whether everything is durable now.

        Raises StaleAppendError when this server no longer owns the execution.
        """
        self._deferred += events
        if not self._deferred:
            return True
        if not at_once and self._may_defer(events, state, now):
            return False
        events, self._deferred, self._deferred_since, self._completions = self._deferred, [], None, 0
        await self._append(events, self._transition(state))
        self._made_durable(state)
        return True

    def _made_durable(self, state: State) -> None:
        self.durable_sequence = state.sequence
        self.ended = state.terminal
        self._status = state.status

    async def _append(self, events: list[StoredEvent], transition: Transition | None) -> None:
        """Appends; while the journal is unavailable, waits and then finds out whether the events are there (P9)."""
        expected = events[0].sequence - 1
        try:
            await self._journal.append(self._execution, expected, events, self.fence, transition)
        except UnavailableError as error:
            logger.warning("the outcome of an append is unknown: %s", error)
            await patiently(lambda: self._append_if_missing(expected, events, transition), self._execution)

    async def _append_if_missing(self, expected: int, events: list[StoredEvent], transition: Transition | None) -> None:
        size_bytes = sum(len(event.data) for event in events)
        found = await self._journal.read(self._execution, expected, limit=len(events), limit_bytes=size_bytes)
        if not found:
            await self._journal.append(self._execution, expected, events, self.fence, transition)
        elif [event.data for event in found] == [event.data for event in events]:
            self._found(events)
            if events[-1].kind not in TERMINAL_KINDS:  # or the lease ran out meanwhile, and what follows is another's
                await self._journal.append(self._execution, events[-1].sequence, [], self.fence)
        else:
            raise StaleAppendError("the journal went on without this server")

    def _transition(self, state: State) -> Transition | None:
        if self._status is state.status:
            return None
        return Transition(state.status, state.start, state.end)

    def _may_defer(self, events: Sequence[StoredEvent], state: State, now: Micros) -> bool:
        """Completions and what they start may wait; everything else, and time, flushes them in order."""
        policy = self._plan.definition.durability
        if policy is Durability.EVERY_STEP or state.terminal or self._transition(state) is not None:
            return False
        if any(event.kind not in _DEFERRABLE for event in events):
            return False
        flush_at = self.flush_at
        if flush_at is not None and now >= flush_at:
            return False
        if self._deferred_since is None:
            self._deferred_since = now
        settled = [event.step for event in events if event.kind is not EventKind.STEP_STARTED]
        self._completions += len(settled)
        if policy is Durability.EVERY_N_STEPS:
            return self._completions < self._plan.definition.durability_steps
        return not any(self._stage_done(step, state) for step in settled)

    def _stage_done(self, step: str, state: State) -> bool:
        level = self._plan.steps[step].level
        return all(name in state.outcomes for name, other in self._plan.steps.items() if other.level == level)
