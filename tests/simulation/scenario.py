"""One run: a seed decides everything, from the workflows to the order in which callbacks run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from simulation.clients import Clients, Errand
from simulation.connections import SimulatedJournal
from simulation.database import Database
from simulation.faults import TROUBLE_S, Faults
from simulation.history import History
from simulation.machines import Universe
from simulation.network import Weather
from simulation.replicas import Server, Site
from simulation.workload import Workload
from torana_server.execution import AdmissionLimits, driving

SETTLED_WITHIN_S: Final = 400.0
"""Far longer than any workflow of the workload takes once nothing goes wrong."""
_EXPECTED: Final = ("errors.UnavailableError: ", "errors.StaleAppendError: ")


@dataclass(frozen=True)
class Plant:
    """A bug that is put into a run: other classes in the place of the product's, which must be found out."""

    journal: type[SimulatedJournal] = SimulatedJournal
    database: type[Database] = Database
    executor: type[Any] | None = None
    driving: type[Any] | None = None


NO_PLANT: Final = Plant()


def simulate(seed: int, plant: Plant = NO_PLANT) -> History:
    """Everything that happened under this seed."""
    universe = Universe(seed)
    history = History()
    with _observed(universe, history, plant):
        try:
            _Run(universe, history, plant).go()
        finally:
            universe.end()
    return history


class _Run:
    def __init__(self, universe: Universe, history: History, plant: Plant) -> None:
        chance = universe.chance
        embedded = chance.random() < 0.25
        self._universe = universe
        self._history = history
        self._database = plant.database(universe, history)
        self._site = Site(
            universe=universe,
            history=history,
            database=self._database,
            workload=Workload.drawn(chance),
            weather=Weather(),
            embedded=embedded,
            limits=AdmissionLimits(running=chance.choice((1, 2, 100)), queued=chance.choice((1, 3, 100))),
            queue_timeout_s=chance.choice((None, None, 10.0)),
            journal_type=plant.journal,
        )
        count = 1 if embedded else chance.choice((1, 2, 2, 3))
        self._servers = [
            Server(self._site, number, lesser=number > 0 and chance.random() < 0.15) for number in range(count)
        ]
        self._clients = Clients(self._site, self._servers)
        self._faults = Faults(self._site, self._servers)

    def go(self) -> None:
        for server in self._servers:
            server.start()
        workflows = [definition.name for definition in self._site.workload.definitions]
        for errand in Errand.drawn(self._universe.chance, workflows):
            self._clients.send(errand)
        self._faults.prepare()
        self._universe.run(lambda: False, TROUBLE_S)
        self._faults.end()
        if self._settles(self._all_ended) and self._audited():
            self._close()
        self._history.definitions += self._site.workload.definitions
        for execution, row in sorted(self._database.rows.items()):
            self._history.journal[execution] = (row.summary, list(row.events))
        self._history.defects += [d for m in self._universe.machines for d in m.defects]

    def _all_ended(self) -> bool:
        processes = [server.process for server in self._servers]
        settled = all(process is not None and process.ready and not process.draining for process in processes)
        return settled and not self._clients.at_work and all(row.ended for row in self._database.rows.values())

    def _settles(self, done: Any) -> bool:
        if self._universe.run(done, self._universe.now_s + SETTLED_WITHIN_S):
            return True
        open_ = [f"{e} is {row.summary.state}" for e, row in sorted(self._database.rows.items()) if not row.ended]
        waiting = [f"{self._clients.at_work} clients wait"] if self._clients.at_work else []
        self._history.unfinished += open_ + waiting
        return False

    def _audited(self) -> bool:
        self._clients.audit(sorted(self._database.rows))
        return self._settles(self._all_ended)

    def _close(self) -> None:
        """Every server ends in good order, and has nothing left in hand."""
        processes = [server.process for server in self._servers if server.process is not None]
        open_ = {process.machine.name for process in processes}
        for process in processes:
            process.drain(1.0, partial(open_.discard, process.machine.name))
        if not self._universe.run(lambda: not open_, self._universe.now_s + SETTLED_WITHIN_S):
            self._history.unfinished.append(f"servers {sorted(open_)} do not end")
        if not self._universe.run(lambda: not any(p.machine.tasks for p in processes), self._universe.now_s + 30):
            left = {p.machine.name: p.machine.tasks for p in processes if p.machine.tasks}
            self._history.unfinished.append(f"tasks are left after the end: {left}")


@contextmanager
def _observed(universe: Universe, history: History, plant: Plant) -> Iterator[None]:
    """Ids are the seed's, and what the engine logs as its own defect is no secret."""
    logger = logging.getLogger("torana")
    handler = _Defects(history)
    level = logger.level
    with ExitStack() as stack:
        stack.enter_context(patch.object(driving, "new_id", universe.new_id))
        if plant.executor is not None:
            stack.enter_context(patch.object(driving, "Executor", plant.executor))
        if plant.driving is not None:
            stack.enter_context(patch("torana_server.execution.engine.Driving", plant.driving))
        logger.setLevel(logging.ERROR)
        logger.addHandler(handler)
        stack.callback(logger.setLevel, level)
        stack.callback(logger.removeHandler, handler)
        yield


class _Defects(logging.Handler):
    """Takes down what the engine calls a defect: errors, but for what an absent journal is the reason of."""

    def __init__(self, history: History) -> None:
        super().__init__(logging.ERROR)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        stack = record.exc_text or ""
        expected = record.levelno == logging.CRITICAL or any(error in stack for error in _EXPECTED)
        if not expected:
            self._history.defects.append(f"{record.getMessage()}\n{stack}")
