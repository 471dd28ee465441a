"""How many executions run at once, and who waits."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torana_server.core.errors import ExhaustedError


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Running executions per server, tenant and workflow; beyond them a bounded queue."""

    running: int = 1_000
    running_per_tenant: int = 1_000
    running_per_workflow: int = 1_000
    queued: int = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """What an execution counts against."""

    tenant: str
    workflow: str


class Admission:
    """Counts places. First come, first served, except that one full workflow or tenant does not hold up others."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._running = 0
        self._by_tenant: Counter[str] = Counter()
        self._by_workflow: Counter[Place] = Counter()
        self._queue: OrderedDict[str, tuple[Place, Callable[[], None]]] = OrderedDict()

    @property
    def running(self) -> int:
        return self._running

    @property
    def queued(self) -> int:
        return len(self._queue)

    def try_enter(self, place: Place) -> bool:
        """Takes a place if one is free and nobody who could use it waits."""
        if not self._fits(place) or any(self._fits(waiting) for waiting, _ in self._queue.values()):
            return False
        self._take(place)
        return True

    def check_queue(self) -> None:
        """Raises ExhaustedError (QUEUE_FULL) when nobody more may wait."""
        if len(self._queue) >= self._limits.queued:
            raise ExhaustedError(
                f"{self._running} executions run and {len(self._queue)} wait; try again later",
                metadata={"limit": str(self._limits.queued)},
                retry_after_s=1.0,
            )

    def wait(self, execution: str, place: Place, admitted: Callable[[], None]) -> None:
        """Queues. `admitted` is called, at once or from `leave`, when the execution holds a place."""
        if self.try_enter(place):
            admitted()
        else:
            self._queue[execution] = (place, admitted)

    def give_up(self, execution: str) -> None:
        """Leaves the queue, if still in it."""
        self._queue.pop(execution, None)

    def leave(self, place: Place) -> None:
        """Gives a place back, to the first that waits for one like it."""
        self._running -= 1
        self._by_tenant[place.tenant] -= 1
        self._by_workflow[place] -= 1
        self._forget_zeros(place)
        for execution, (waiting, admitted) in self._queue.items():
            if self._fits(waiting):
                del self._queue[execution]
                self._take(waiting)
                admitted()
                return

    def _fits(self, place: Place) -> bool:
        limits = self._limits
        return (
            self._running < limits.running
            and self._by_tenant[place.tenant] < limits.running_per_tenant
            and self._by_workflow[place] < limits.running_per_workflow
        )

    def _take(self, place: Place) -> None:
        self._running += 1
        self._by_tenant[place.tenant] += 1
        self._by_workflow[place] += 1

    def _forget_zeros(self, place: Place) -> None:
        if not self._by_tenant[place.tenant]:
            del self._by_tenant[place.tenant]
        if not self._by_workflow[place]:
            del self._by_workflow[place]
