"""A server that is started again and again: the real engine on a simulated machine, and the calls that reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from simulation.connections import SimulatedJournal
from simulation.database import Database
from simulation.history import Fault, History, Sent
from simulation.machines import Machine, Universe
from simulation.network import Weather
from simulation.workload import CANCEL_GRACE_S, Runner, Workload
from simulation.world import CALLER, Binder, Catalog
from torana_server.adapters.wire import WireCodec
from torana_server.core.clock import Micros
from torana_server.core.errors import InvalidWorkflowError, Reason, UnavailableError
from torana_server.execution import AdmissionLimits, Batch, Engine, EventFilter, Services
from torana_server.workflow import WorkflowRegistry

HEARTBEAT_S: Final = 4.0
RESTART_S: Final = 0.2

Method = Callable[["Process"], Awaitable[Any]]


@dataclass
class Site:
    """What all replicas of a run share."""

    universe: Universe
    history: History
    database: Database
    workload: Workload
    weather: Weather
    embedded: bool
    limits: AdmissionLimits
    queue_timeout_s: float | None
    journal_type: type[SimulatedJournal] = SimulatedJournal
    codec: WireCodec = field(default_factory=WireCodec)


class Clock:
    """A wall clock that may be set ahead, or back."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self.shift_s = 0.0

    def now(self) -> Micros:
        return Micros(self._universe.now + round(self.shift_s * 1_000_000))


class _Lesser(Catalog):
    """That of a server of an earlier release, which knows no switches."""

    def __init__(self) -> None:
        super().__init__()
        del self._specs["switch"]


class Server:
    """One replica over its lives. `process` is the present one, None while it is down."""

    def __init__(self, site: Site, number: int, *, lesser: bool) -> None:
        self._site = site
        self._lives = 0
        self.number = number
        self.lesser = lesser
        self.clock = Clock(site.universe)
        self.process: Process | None = None

    def start(self) -> None:
        if self.process is None:
            self._lives += 1
            name = f"server-{self.number}.{self._lives}"
            self.process = Process(self._site, self, self._site.universe.machine(name))

    def ended(self, *, start_again_s: float) -> None:
        self.process = None
        self._site.universe.later(start_again_s, self.start)


class Process:
    """One life of a server."""

    def __init__(self, site: Site, server: Server, machine: Machine) -> None:
        self._site = site
        self._server = server
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self.draining = False
        self.machine = machine
        self.ready = False
        machine.burned = self._burn
        self.journal = site.journal_type(
            site.universe, machine, site.database, site.history, site.weather, embedded=site.embedded
        )
        catalog = _Lesser() if server.lesser else Catalog()
        workflows = WorkflowRegistry(catalog, server.clock)
        for definition in site.workload.definitions:
            try:
                workflows.register(definition)
            except InvalidWorkflowError:
                assert server.lesser, "every other server knows all step types"
        runner = Runner(
            site.universe,
            machine,
            site.workload,
            site.database,
            site.history,
            site.codec,
            lambda: self.journal.replica,
        )
        services = Services(
            journal=self.journal,
            codec=site.codec,
            clock=server.clock,
            runner=runner,
            redact=lambda text: text,
            draw=site.universe.chance.random,
            server_id=machine.name,
            env={},
            cancel_grace_s=CANCEL_GRACE_S,
            queue_timeout_s=site.queue_timeout_s,
        )
        self.engine = Engine(
            services,
            workflows,
            Binder(),
            offers=lambda: frozenset(catalog.names()),
            limits=site.limits,
            on_fatal=self._fatal,
        )
        self._on_machine(self._open())

    async def _open(self) -> None:
        try:
            await self.engine.open()
        except UnavailableError:
            self.die("start without a database", start_again_s=1.0)
            return
        self.engine.go_on()
        self.ready = True

    # --- its end ------------------------------------------------------------------------------------------------

    def die(self, kind: str, *, start_again_s: float = RESTART_S) -> None:
        """At once, whatever it was doing. Its callers see their connections break."""
        if not self.machine.alive:
            return
        self._site.history.add(Fault(self._site.universe.now_s, kind, self.machine.name))
        self.machine.kill()
        self.journal.buried()
        self._server.ended(start_again_s=start_again_s)
        for future in self._calls.values():
            self._site.universe.later(0.001, _fail, future, UnavailableError("the connection broke"))

    def _burn(self) -> None:
        self.die("crash at an await", start_again_s=self._site.universe.chance.choice((RESTART_S, 3.0, 9.0)))

    def _fatal(self, error: Exception) -> None:
        self.machine.call_later(self._site.universe.chance.random(), self.die, "journal failed")

    def drain(self, grace_s: float, done: Callable[[], None] | None = None) -> None:
        """Ends in good order, and starts again unless somebody else is `done` with it."""
        if self.ready and not self.draining:
            self.draining = True
            self._on_machine(self._drain(grace_s, done))

    async def _drain(self, grace_s: float, done: Callable[[], None] | None) -> None:
        await self.engine.drain(grace_s)
        await self.engine.close()
        if done is not None:
            done()
        else:
            self.die("drain")

    def _on_machine(self, work: Any) -> None:
        self.machine.create_task(work)

    # --- its callers --------------------------------------------------------------------------------------------

    def serve(self, method: Method, future: asyncio.Future[Any]) -> Callable[[], None]:
        """Runs a call and answers it to the future of another machine. Gives what cancels it."""
        call = self._site.universe.number()
        self._calls[call] = future
        tasks: list[asyncio.Task[Any]] = []

        def begin() -> None:
            if call in self._calls:
                task = self.machine.create_task(method(self))
                tasks.append(task)
                task.add_done_callback(lambda task: self._answer(call, task))

        def cancel() -> None:
            self._calls.pop(call, None)
            for task in tasks:
                task.cancel()

        self.machine.call_soon(begin)
        return lambda: self._site.universe.later(self._latency_s(), self._if_alive, cancel)

    def _if_alive(self, callback: Callable[[], None]) -> None:
        if self.machine.alive:
            self.machine.call_soon(callback)

    def _answer(self, call: int, task: asyncio.Task[Any]) -> None:
        future = self._calls.pop(call, None)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if future is None or not self.machine.alive:
            return
        if error is None:
            self._site.universe.later(self._latency_s(), _succeed, future, task.result())
        else:
            self._site.universe.later(self._latency_s(), _fail, future, error)

    async def follow(self, execution: str, after: int, where: EventFilter, send: Callable[[Batch], None]) -> None:
        """Sends batches until the execution has ended; heartbeats are batches without events."""
        watch = await self.engine.watch(CALLER, execution, after, where)
        try:
            while not watch.ended:
                batch = await watch.next(HEARTBEAT_S)
                if batch is None and watch.draining:
                    raise UnavailableError("this server drains", reason=Reason.SERVER_DRAINING)
                if batch is None:
                    batch = Batch((), watch.through_sequence, watch.mark(), terminal=False)
                self._send(execution, batch, send)
        finally:
            watch.close()

    def _send(self, execution: str, batch: Batch, send: Callable[[Batch], None]) -> None:
        holds = self._site.database.holds
        lost = tuple(event.sequence for event in batch.events if not holds(execution, event))
        if self.machine.alive:
            self._site.history.add(Sent(self._site.universe.now_s, self.machine.name, execution, lost))
            send(batch)

    def _latency_s(self) -> float:
        return 0.0005 + self._site.universe.chance.random() * 0.01


def _succeed(future: asyncio.Future[Any], answer: Any) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error if not isinstance(error, asyncio.CancelledError) else _stopped())


def _stopped() -> UnavailableError:
    return UnavailableError("the server stopped the call")
