"""What goes wrong in a run, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from simulation.history import Fault
from simulation.replicas import Clock, Process, Server, Site

TROUBLE_S: Final = 16.0
"""Nothing goes wrong after this."""


class Faults:
    def __init__(self, site: Site, servers: Sequence[Server]) -> None:
        self._site = site
        self._universe = site.universe
        self._chance = site.universe.chance
        self._servers = servers
        self._asleep: dict[int, Process] = {}
        """Those that sleep until others have taken what is theirs, by replica."""
        site.database.bereaved = self._wake

    def prepare(self) -> None:
        """Draws the weather and the hour of every fault."""
        chance, weather = self._chance, self._site.weather
        for name in ("lost_answer", "lost_group", "refused", "slow"):
            if chance.random() < 0.3:
                setattr(weather, name, chance.choice((0.02, 0.1)))
        weather.lost_hint = chance.choice((0.0, 0.3, 1.0))
        weather.late_hint = chance.choice((0.0, 0.2))
        acts: list[Callable[[], None]] = [
            self._crash_at_an_await,
            self._crash_at_an_await,
            self._crash_at_a_commit,
            self._crash_at_a_commit,
            self._pause,
            self._pause,
            self._pause_until_bereaved,
            self._set_clock,
            self._drain,
            self._cut,
            self._lose_claim,
            self._database_away,
            self._disk_full,
        ]
        for _ in range(chance.randrange(1, 7)):
            self._universe.later(chance.random() ** 2 * TROUBLE_S, chance.choice(acts))  # most while most is going on

    def end(self) -> None:
        """From now on nothing goes wrong, and every server is there."""
        self._site.weather.clear()
        for server in self._servers:
            server.lesser = server.lesser and server.number > 0
            if server.process is None:
                server.start()
            else:
                server.process.machine.paused_until_s = 0.0
                server.process.machine.fuse = -1
                server.process.journal.dies_at_commit = ""
                server.process.journal.loses_claim = False

    def _crash_at_an_await(self) -> None:
        for process in self._victim():
            process.machine.fuse = self._chance.choice((1, 20, 100, 300)) * self._chance.randrange(1, 4)

    def _crash_at_a_commit(self) -> None:
        for process in self._victim():
            process.journal.dies_at_commit = self._chance.choice(("before", "during", "after"))

    def _pause(self) -> None:
        for process in self._victim():
            self._note("pause", process)
            process.machine.paused_until_s = self._universe.now_s + self._chance.choice((0.5, 8.0, 12.0))

    def _pause_until_bereaved(self) -> None:
        """It wakes at the worst moment: others own what it drives, and may not have written anything yet."""
        for process in self._victim() if len(self._servers) > 1 else []:
            self._note("pause", process)
            process.machine.paused_until_s = TROUBLE_S * 2
            self._asleep[process.journal.replica] = process

    def _wake(self, replica: int) -> None:
        process = self._asleep.pop(replica, None)
        if process is not None:
            process.machine.paused_until_s = self._universe.now_s + self._chance.random() * 0.01

    def _set_clock(self) -> None:
        for process in self._victim():
            self._note("clock set", process)
            self._servers_clock(process).shift_s += self._chance.choice((-30.0, -1.0, 1.0, 30.0))

    def _drain(self) -> None:
        for process in self._victim():
            process.drain(self._chance.choice((0.0, 0.5, 5.0)))

    def _cut(self) -> None:
        for process in self._victim():
            self._note("connection cut", process)
            process.journal.cut()

    def _lose_claim(self) -> None:
        """Something must be there to be claimed, so one of the others dies with what it has."""
        *others, last = self._chance.sample(self._servers, len(self._servers))
        for process in [last.process] if others and last.process is not None else []:
            process.machine.fuse = 0
            for other in others:
                if other.process is not None:
                    other.process.journal.loses_claim = True

    def _database_away(self) -> None:
        self._site.history.add(Fault(self._universe.now_s, "database away", ""))
        self._site.weather.away_until_s = self._universe.now_s + self._chance.choice((0.3, 2.0, 6.0))

    def _disk_full(self) -> None:
        self._site.history.add(Fault(self._universe.now_s, "disk full", ""))
        self._site.weather.full_until_s = self._universe.now_s + self._chance.choice((0.3, 2.0))

    def _victim(self) -> list[Process]:
        """Rather one that drives something."""
        processes = [server.process for server in self._servers if server.process is not None]
        able = [process for process in processes if process.ready and process.machine.awake]
        busy = [process for process in able if self._site.database.drives(process.journal.replica)]
        return [self._chance.choice(busy or able)] if able else []

    def _servers_clock(self, process: Process) -> Clock:
        return next(server.clock for server in self._servers if server.process is process)

    def _note(self, kind: str, process: Process) -> None:
        self._site.history.add(Fault(self._universe.now_s, kind, process.machine.name))
