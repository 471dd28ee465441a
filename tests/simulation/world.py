"""A server without its outside: engine, journal in memory, virtual clock, and steps that follow a script."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from simulation.journals import UnreliableJournal
from simulation.virtual_time import VirtualClock
from torana_server.access import Principal
from torana_server.adapters.wire import WireCodec
from torana_server.core.errors import Violation
from torana_server.core.values import Payload, encode
from torana_server.execution import (
    AdmissionLimits,
    Engine,
    Event,
    EventFilter,
    EventKind,
    ExecutionRequest,
    Services,
    StoredEvent,
)
from torana_server.resources import Binding
from torana_server.steps import StepCall, StepEvents, StepResult
from torana_server.workflow import Connection, Definition, Step, WorkflowRegistry

CALLER = Principal(tenant="acme", subject="ann")
STRANGER = Principal(tenant="globex", subject="eve")
SECRET = "hunter2hunter2"

Script = Callable[[StepCall, StepEvents], Awaitable[Any]]


@dataclass(frozen=True)
class Spec:
    name: str
    literal_fields: frozenset[str] = frozenset()

    def problems(self, config: Mapping[str, object]) -> Sequence[Violation]:
        return []

    def routes(self, config: Mapping[str, object]) -> frozenset[str]:
        routes = config.get("routes", [])
        assert isinstance(routes, list)
        return frozenset(routes)

    def requires(self, config: Mapping[str, object]) -> frozenset[str]:
        return frozenset({self.name})


class Catalog:
    """Two types: `work`, and `switch` with the routes its config names."""

    def __init__(self) -> None:
        self._specs = {"work": Spec("work"), "switch": Spec("switch")}

    def get(self, type_name: str) -> Spec | None:
        return self._specs.get(type_name)

    def names(self) -> Sequence[str]:
        return sorted(self._specs)


@dataclass(frozen=True)
class Routed:
    value: object
    route: str


class ScriptedRunner:
    """Runs each step by its script: a coroutine function of (call, events) whose value is the output.

    A step without a script returns {"step": its name}. Steps run in the task that awaits `run`, as in the server.
    """

    cancel_grace_s = 10.0

    def __init__(self, scripts: Mapping[str, Script] | None = None) -> None:
        self.scripts = dict(scripts or {})
        self.calls: list[StepCall] = []
        self.abandoned: list[StepCall] = []
        self.running = 0
        self.running_max = 0

    async def run(self, call: StepCall, events: StepEvents) -> StepResult:
        self.calls.append(call)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            script = self.scripts.get(call.step.name)
            output = {"step": call.step.name} if script is None else await script(call, events)
        finally:
            self.running -= 1
        if isinstance(output, Routed):
            return StepResult(encode(output.value), output.route)
        return StepResult(output if isinstance(output, Payload) else encode(output))

    def abandon(self, call: StepCall) -> None:
        self.abandoned.append(call)

    async def close(self) -> None:
        """There is nothing to wait for."""

    def attempts(self, step: str) -> list[int]:
        return [call.attempt for call in self.calls if call.step.name == step]


class Binder:
    """Binds what was asked for, as it stands."""

    def bind(
        self,
        principal: Principal,
        requested: Mapping[str, Binding],
        required: Sequence[str],
        *,
        share_inline: bool = False,
    ) -> dict[str, Binding]:
        return dict(requested)


def sleeps(duration_s: float, output: object = None) -> Script:
    async def script(call: StepCall, events: StepEvents) -> object:
        await asyncio.sleep(duration_s)
        return output

    return script


def fails(error: Callable[[], BaseException], times: int = 1_000_000) -> Script:
    """Raises on the first `times` attempts."""

    async def script(call: StepCall, events: StepEvents) -> object:
        if call.attempt <= times:
            raise error()
        return {"attempt": call.attempt}

    return script


async def for_ever(call: StepCall, events: StepEvents) -> object:
    await asyncio.sleep(1e9)
    return None


def work(name: str, **fields: Any) -> Step:
    return Step(name=name, type="work", **fields)


def joined(*pairs: str) -> tuple[Connection, ...]:
    """Connections from texts: `a>b`, or `a>b:route`."""
    connections = []
    for pair in pairs:
        way, _, route = pair.partition(":")
        source, _, target = way.partition(">")
        connections.append(Connection(from_step=source, to_step=target, route=route))
    return tuple(connections)


def flow(*steps: str | Step, connections: Sequence[str] = (), **fields: Any) -> Definition:
    made = tuple(work(step) if isinstance(step, str) else step for step in steps)
    return Definition(name="flow", steps=made, connections=joined(*connections), **fields)


@dataclass
class World:
    """One server. `restarted` makes the next one on the same journal."""

    runner: ScriptedRunner = field(default_factory=ScriptedRunner)
    journal: UnreliableJournal = field(default_factory=UnreliableJournal)
    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    queue_timeout_s: float | None = None
    draws: list[float] = field(default_factory=list)
    """What the random numbers behind jitter are, one after the other; 0 when there are no more."""
    server_id: str = "server-1"
    clock: VirtualClock = field(default_factory=VirtualClock)
    workflows: WorkflowRegistry = field(default_factory=lambda: WorkflowRegistry(Catalog()))

    def __post_init__(self) -> None:
        self.codec = WireCodec()
        self.fatal: list[Exception] = []
        services = Services(
            journal=self.journal,
            codec=self.codec,
            clock=self.clock,
            runner=self.runner,
            redact=lambda text: text.replace(SECRET, "***"),
            draw=lambda: self.draws.pop(0) if self.draws else 0.0,
            server_id=self.server_id,
            env={},
            cancel_grace_s=10.0,
            queue_timeout_s=self.queue_timeout_s,
            debugs=self.workflows.debugs,
        )
        self.engine = Engine(
            services,
            self.workflows,
            Binder(),
            offers=lambda: frozenset({"work", "switch"}),
            limits=self.limits,
            on_fatal=self.fatal.append,
        )

    def restarted(self, runner: ScriptedRunner | None = None, **fields: Any) -> World:
        kept = replace(self, runner=runner or ScriptedRunner(self.runner.scripts), server_id="server-2", **fields)
        kept.clock = self.clock
        return kept

    @asynccontextmanager
    async def open(self, grace_s: float = 0.0) -> AsyncIterator[World]:
        await self.engine.open()
        self.engine.go_on()
        try:
            yield self
        finally:
            self.journal.available, self.journal.outages = True, 0
            await self.engine.drain(grace_s)
            await self.engine.close()

    async def crash(self) -> None:
        """The process is gone: nothing it still had in hand happens, and its leases run out."""
        driving = self.engine._driving
        tasks = [*driving._tasks, driving._claimer]
        for executor in driving._executors.values():
            tasks += [attempt.task for attempt in executor._attempts._running.values()]
        self.journal.stale, self.journal.available = True, False
        gone = [task for task in tasks if task is not None]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        self.journal.stale, self.journal.available = False, True
        self.journal.lose_owner()

    async def start(self, definition: Definition | str = "flow", **fields: Any) -> str:
        """Registers the definition, if it is one, and starts it; the execution's id."""
        if isinstance(definition, Definition):
            self.workflows.register(definition)
            definition = definition.name
        started = await self.engine.start(CALLER, ExecutionRequest(workflow=definition, **fields))
        return started.summary.execution

    async def watched(self, execution: str, after: int = 0, where: EventFilter | None = None) -> list[Event]:
        """Its events to the last, as a watcher gets them."""
        watch = await self.engine.watch(CALLER, execution, after, where or EventFilter())
        events: list[Event] = []
        try:
            while not watch.ended:
                batch = await watch.next(3_600)
                assert batch is not None, f"nothing came for an hour after {[e.body.kind.name for e in events]}"
                events += [self.codec.decode(stored.data) for stored in batch.events]
        finally:
            watch.close()
        return events

    async def run(self, definition: Definition, **fields: Any) -> list[Event]:
        return await self.watched(await self.start(definition, **fields))

    async def stored(self, execution: str) -> list[StoredEvent]:
        return await self.journal.read(execution, 0, limit=1_000_000, limit_bytes=1 << 40)

    async def events(self, execution: str) -> list[Event]:
        """What the journal holds."""
        return [self.codec.decode(event.data) for event in await self.stored(execution)]


def kinds(events: Sequence[Event]) -> list[str]:
    """Such as `started`, or `step_started a` with the attempt when it is not the first."""
    return [_kind(event) for event in events]


def _kind(event: Event) -> str:
    name = event.body.kind.name.lower().removeprefix("execution_")
    attempt = f"#{event.attempt}" if event.attempt > 1 else ""
    return f"{name} {event.step}{attempt}" if event.step else name


def seconds_of(event: Event, since: Event) -> float:
    return (event.time - since.time) / 1_000_000


def only(events: Sequence[Event], kind: EventKind, step: str = "") -> Event:
    found = [event for event in events if event.body.kind is kind and event.step == step]
    assert len(found) == 1, f"{len(found)} events {kind.name} {step} in {kinds(events)}"
    return found[0]


def check_history(events: Sequence[Event]) -> None:
    """What holds for every journal of a finished execution."""
    terminal = {EventKind.EXECUTION_COMPLETED, EventKind.EXECUTION_FAILED, EventKind.EXECUTION_CANCELLED}
    assert [event.sequence for event in events] == list(range(1, len(events) + 1)), "the sequence has gaps"
    assert [event.body.kind in terminal for event in events].count(True) == 1, "one terminal event"
    assert events[-1].body.kind in terminal, "nothing after it"
    times = [event.time for event in events]
    assert times == sorted(times), "times never decrease"
    settled: set[str] = set()
    attempts: dict[str, int] = defaultdict(int)
    for event in events:
        assert event.step not in settled, f"{event.step} had settled before event {event.sequence}"
        if event.body.kind is EventKind.STEP_STARTED:
            assert event.attempt == attempts[event.step] + 1, "attempts rise one by one"
            attempts[event.step] = event.attempt
        elif event.step and event.attempt:
            assert event.attempt == attempts[event.step], f"event {event.sequence} is of a superseded attempt"
        if event.body.kind in SETTLING:
            settled.add(event.step)


SETTLING = frozenset(
    {
        EventKind.STEP_COMPLETED,
        EventKind.STEP_FAILED,
        EventKind.STEP_SKIPPED,
        EventKind.STEP_CANCELLED,
        EventKind.STEP_REUSED,
    }
)
