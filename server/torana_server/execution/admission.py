"""How many executions run at once, and who waits."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torana_server.core.errors import ExhaustedError


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Running executions per server, tenant and workflow; beyond them a bounded queue."""

    running: int = 1_000
    running_per_tenant: int = 1_000
    running_per_workflow: int = 1_000
    queued: int = 10_000


class Place(NamedTuple):
    """What an execution counts against."""

    tenant: str
    workflow: str


@dataclass(frozen=True, slots=True)
class _Waiting:
    arrival: int
    admitted: Callable[[], None]


class Admission:
    """Counts places. First come, first served, except that one full workflow or tenant does not hold up others.

    A place that becomes free goes to somebody who waits for one like it at once, so whoever waits could not use any
    that is free.
    """

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._running = 0
        self._by_tenant: Counter[str] = Counter()
        self._by_workflow: Counter[Place] = Counter()
        self._seats = 0
        """Kept in the queue for executions that are being created."""
        self._arrivals = 0
        self._queues: dict[Place, OrderedDict[str, _Waiting]] = {}
        self._places: dict[str, Place] = {}

    @property
    def running(self) -> int:
        return self._running

    @property
    def queued(self) -> int:
        return len(self._places)

    def check(self, place: Place) -> None:
        """Raises ExhaustedError (QUEUE_FULL) where `enter` would."""
        waiting = len(self._places) + self._seats
        if waiting >= self._limits.queued and not self._fits(place):
            raise ExhaustedError(
                f"{self._running} executions run and {waiting} wait; try again later",
                metadata={"limit": str(self._limits.queued)},
                retry_after_s=1.0,
            )

    def enter(self, place: Place) -> bool:
        """Takes a place if one is free; failing that, keeps a seat in the queue, which `wait` or `withdraw` gives
        back. Whether it was a place. Raises ExhaustedError (QUEUE_FULL)."""
        if self._fits(place):
            self._take(place)
            return True
        self.check(place)
        self._seats += 1
        return False

    def withdraw(self, place: Place, *, admitted: bool) -> None:
        """Undoes `enter`."""
        if admitted:
            self.leave(place)
        else:
            self._seats -= 1

    def wait(self, execution: str, place: Place, admitted: Callable[[], None], *, has_seat: bool) -> None:
        """Queues, however long the queue is. `admitted` is called, at once or from `leave`, when the execution holds
        a place."""
        if has_seat:
            self._seats -= 1
        if self._fits(place):
            self._take(place)
            admitted()
            return
        self._arrivals += 1
        self._queues.setdefault(place, OrderedDict())[execution] = _Waiting(self._arrivals, admitted)
        self._places[execution] = place

    def give_up(self, execution: str) -> None:
        """Leaves the queue, if still in it."""
        place = self._places.pop(execution, None)
        if place is not None:
            self._dequeue(place, execution)

    def leave(self, place: Place) -> None:
        """Gives a place back, to the first that waits for one like it."""
        self._running -= 1
        self._by_tenant[place.tenant] -= 1
        self._by_workflow[place] -= 1
        self._forget_zeros(place)
        # One place fits one execution, whatever it was full for.
        first = min((place for place in self._queues if self._fits(place)), key=self._first_arrival, default=None)
        if first is None:
            return
        execution = next(iter(self._queues[first]))
        del self._places[execution]
        waiting = self._dequeue(first, execution)
        self._take(first)
        waiting.admitted()

    def _first_arrival(self, place: Place) -> int:
        return next(iter(self._queues[place].values())).arrival

    def _dequeue(self, place: Place, execution: str) -> _Waiting:
        queue = self._queues[place]
        waiting = queue.pop(execution)
        if not queue:
            del self._queues[place]
        return waiting

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
