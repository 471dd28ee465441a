"""What tests of steps run them in: a runner, events that are remembered, and resources that live in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torana_server.access import Principal
from torana_server.core.clock import Micros
from torana_server.core.errors import Reason, ResourceError
from torana_server.core.values import Payload, decode
from torana_server.resources import Binding
from torana_server.steps import (
    FunctionRegistry,
    ImportPolicy,
    InProcessRunner,
    StepCall,
    StepThreads,
    StepTypes,
    built_in_types,
)
from torana_server.workflow import Step

ALICE = Principal("acme", "alice")


@dataclass(slots=True)
class Recorded:
    """`StepEvents` that remembers."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    fields: list[Mapping[str, object]] = field(default_factory=list)
    progressed: list[tuple[float, str, object]] = field(default_factory=list)
    emitted: list[tuple[str, object]] = field(default_factory=list)
    saved: list[Payload] = field(default_factory=list)

    async def progress(self, fraction: float, message: str, data: Payload | None) -> None:
        self.progressed.append((fraction, message, None if data is None else decode(data)))

    async def emit(self, topic: str, value: Payload) -> None:
        self.emitted.append((topic, decode(value)))

    async def checkpoint(self, value: Payload) -> None:
        self.saved.append(value)

    def log(self, level: int, message: str, data: Mapping[str, object] | None = None) -> None:
        self.lines.append((level, message))
        if data is not None:
            self.fields.append(data)


@dataclass(slots=True)
class Leases:
    """`ResourceLeases` over the objects of a dict; counts what is out."""

    objects: dict[str, object] = field(default_factory=dict)
    opened: list[frozenset[str] | None] = field(default_factory=list)
    out: int = 0

    def open(
        self,
        principal: Principal,
        bindings: Mapping[str, Binding],
        *,
        execution: str,
        step: str,
        attempt: int,
        allowed: frozenset[str] | None,
    ) -> Leased:
        self.opened.append(allowed)
        return Leased(self)


@dataclass(slots=True)
class Leased:
    leases: Leases
    names: set[str] = field(default_factory=set)

    async def get(self, name: str) -> object:
        if name not in self.leases.objects:
            raise ResourceError(f"resource {name!r} is not bound", reason=Reason.RESOURCE_NOT_BOUND)
        if name not in self.names:
            self.names.add(name)
            self.leases.out += 1
        return self.leases.objects[name]

    async def release(self) -> None:
        self.leases.out -= len(self.names)
        self.names.clear()


class World:
    """A runner with the built-in types, and calls to give it."""

    def __init__(self, *, policy: ImportPolicy | None = None, threads: int = 2, grace_s: float = 10.0) -> None:
        self.functions = FunctionRegistry()
        self.threads = StepThreads(threads)
        self.leases = Leases()
        self.types = StepTypes()
        for step_type in built_in_types(self.functions, self.threads, policy=policy, cancel_grace_s=grace_s):
            self.types.register(step_type)
        self.runner = InProcessRunner(self.types, self.leases, cancel_grace_s=grace_s, log_level="DEBUG")
        self.events = Recorded()

    def call(
        self,
        step: Step,
        inputs: Mapping[str, object] | None = None,
        *,
        context: Mapping[str, object] | None = None,
        attempt: int = 1,
        restored: Payload | None = None,
        deadline: Micros | None = None,
        revision: str = "revision-1",
        principal: Principal = ALICE,
    ) -> StepCall:
        return StepCall(
            principal=principal,
            execution="execution-1",
            workflow="user_etl",
            revision=revision,
            step=step,
            attempt=attempt,
            config=dict(step.config),
            inputs=dict(inputs or {}),
            context=dict(context or {}),
            deadline=deadline,
            idempotency_key="key-1",
            restored=restored,
        )

    async def run(self, step: Step, inputs: Mapping[str, object] | None = None, **options: object) -> object:
        """The step's output, as the next step gets it."""
        result = await self.runner.run(self.call(step, inputs, **options), self.events)  # type: ignore[arg-type]
        return decode(result.output)

    async def source(self, source: str, **inputs: object) -> object:
        return await self.run(code(source), inputs)


def code(source: str, name: str = "extract", *, required_resources: tuple[str, ...] = ()) -> Step:
    return Step(name=name, type="code", config={"source": source}, required_resources=required_resources)


def function(name: str, **config: object) -> Step:
    return Step(name="load", type="function", config={"function": name, **config})


class Database:
    """A pool of connections whose every query has one answer."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.size = 10

    async def fetchval(self, sql: str) -> object:
        return self.answer
