"""Bugs that the checker must find: other classes in the place of the product's, for simulated runs alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from simulation.connections import SimulatedJournal
from simulation.database import Database, Row
from simulation.scenario import Plant
from simulation.world import CALLER
from torana_server.adapters.journal_rules import check_append
from torana_server.core.errors import ToranaError, UnavailableError
from torana_server.execution import StoredEvent
from torana_server.execution.driving import Driving
from torana_server.execution.executor import Executor
from torana_server.execution.patience import patiently
from torana_server.execution.ports import Commit, Created, Summary, Transition
from torana_server.execution.state import StepPhase
from torana_server.steps import StepCall


class AcknowledgesEarly(SimulatedJournal):
    """Says that events are durable as soon as it has them in hand."""

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        through = expected_sequence + len(events)
        self._told().committed([Commit(execution, CALLER.tenant, through, 0, tuple(events))])
        write = super().append(execution, expected_sequence, events, fence, transition)
        self._machine.create_task(_unheard(write))


async def _unheard(write: Any) -> None:
    try:
        await write
    except ToranaError:
        return


class NoFencing(Database):
    """Lets anybody write who knows the latest sequence."""

    def _check(self, row: Row, replica: int, expected_sequence: int, fence: int) -> None:
        latest = row.summary.latest_sequence
        check_append(row.summary.execution, fence=0, current_fence=0, expected=expected_sequence, latest=latest)


class ForgetsKeys(Database):
    """Creates an execution without a look at what its key started before."""

    def create(self, replica: int, summary: Summary, events: Sequence[StoredEvent]) -> tuple[Created, Commit | None]:
        self._keys.clear()
        return super().create(replica, summary, events)


class ForgetsCheckpoints(Executor):
    """Hands no checkpoint to the next attempt."""

    def _call(self, name: str, number: int) -> StepCall:
        return dataclasses.replace(super()._call(name, number), restored=None)


class LosesRetryTimers(Executor):
    """Forgets, when it takes an execution over, that a step waits for its next attempt."""

    def _arm(self) -> None:
        waiting = any(step.phase is StepPhase.WAITING for step in self.state.steps.values())
        if not (waiting and self.fence > 1):
            super()._arm()


class TakesErrorsForNotWritten(SimulatedJournal):
    """Sends what failed once more, behind whatever the journal holds by then."""

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        try:
            await super().append(execution, expected_sequence, events, fence, transition)
        except UnavailableError:
            await patiently(lambda: self._again(execution, events, fence, transition), execution)

    async def _again(
        self, execution: str, events: Sequence[StoredEvent], fence: int, transition: Transition | None
    ) -> None:
        summary = await self.get(execution)
        assert summary is not None, "it was created"
        latest = summary.latest_sequence
        moved = [event._replace(sequence=latest + number) for number, event in enumerate(events, 1)]
        await super().append(execution, latest, moved, fence, transition)


class ForgetsFailedCreations(Driving):
    """A creation that failed is taken for one that did not take place."""

    async def _find_out(self, executor: Executor, place: Any, admitted: bool, events: Any) -> None:
        self._admission.withdraw(place, admitted=admitted)


PLANTS: Final = {
    "acknowledges before the commit": Plant(journal=AcknowledgesEarly),
    "has no fencing": Plant(database=NoFencing),
    "forgets keys": Plant(database=ForgetsKeys),
    "forgets checkpoints": Plant(executor=ForgetsCheckpoints),
    "loses retry timers": Plant(executor=LosesRetryTimers),
    "takes a failed append for not written": Plant(journal=TakesErrorsForNotWritten),
    "takes a failed creation for not written": Plant(driving=ForgetsFailedCreations),
}
