"""One step by itself, as a server runs it: no workflow, no journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from torana_server.access import LOCAL, Principal
from torana_server.core.clock import Micros, seconds
from torana_server.core.errors import Reason, ResourceError
from torana_server.core.values import Payload, decode, encode
from torana_server.resources import Binding
from torana_server.steps import (
    FunctionRegistry,
    InProcessRunner,
    StepCall,
    StepThreads,
    StepType,
    StepTypes,
    built_in_types,
)
from torana_server.testing.http import FakeHttpApi
from torana_server.testing.recording import LogLine, Progress
from torana_server.testing.virtual_time import LoopClock, guest_of_time
from torana_server.workflow import Step

STEP: Final = "step"
_GRACE_S: Final = 10.0
_THREADS: Final = 4


@dataclass(slots=True)
class StepRun:
    """What a step did. `output` is as the next step would get it; `checkpoints` are what it saved, in order."""

    output: Any = None
    route: str = ""
    progress: list[Progress] = field(default_factory=list)
    logs: list[LogLine] = field(default_factory=list)
    checkpoints: list[Any] = field(default_factory=list)
    events: list[tuple[str, Any]] = field(default_factory=list)
    """Topic and value of everything it emitted."""

    def emitted(self, topic: str) -> list[Any]:
        """What it handed out under the topic, in order."""
        return [value for name, value in self.events if name == topic]


async def run_step(
    step: Callable[..., Any] | str | StepType[Any],
    inputs: Mapping[str, object] | None = None,
    *,
    resources: Mapping[str, object] | None = None,
    context: Mapping[str, object] | None = None,
    config: Mapping[str, object] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    attempt: int = 1,
    restored: object = None,
    timeout_s: float | None = None,
) -> StepRun:
    """Runs a function, the source of a code step, or a step type with its `config`.

    `resources` are fakes by the names that the step asks for, `context` the request's values, `functions` what source
    may call by name, `restored` the last checkpoint of an earlier attempt. Raises what the step raises; what it had
    done before is in the notes of the error. Inputs and output are copied as between steps, so what cannot be stored
    fails here too.
    """
    run = StepRun()
    bench = _Bench(step, functions or {}, _Resources(resources or {}))
    with ExitStack() as stack:
        stack.callback(bench.threads.close)
        stack.enter_context(guest_of_time(bench))
        bench.clock.attach()
        call = bench.call(dict(config or {}), inputs or {}, context or {})
        call.attempt, call.restored = attempt, None if restored is None else encode(restored)
        call.deadline = None if timeout_s is None else Micros(bench.clock.now() + seconds(timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                result = await asyncio.create_task(bench.runner.run(call, _Events(run)), name="step")
        except Exception as error:
            error.add_note(f"before that, the step did: {run}")
            raise
        finally:
            await bench.runner.close()
    run.output, run.route = decode(result.output), result.route
    return run


class _Bench:
    """The parts of a server that one step needs."""

    def __init__(
        self,
        step: Callable[..., Any] | str | StepType[Any],
        functions: Mapping[str, Callable[..., Any]],
        leases: _Resources,
    ) -> None:
        registry, types = FunctionRegistry(), StepTypes()
        self.clock = LoopClock()
        self.threads = StepThreads(_THREADS)
        for name, function in functions.items():
            registry.register(name, function)
        for built_in in built_in_types(registry, self.threads, cancel_grace_s=_GRACE_S):
            types.register(built_in)
        if isinstance(step, str):
            self._type, self._config = "code", {"source": step}
        elif isinstance(step, StepType):
            self._type, self._config = step.name, {}
            types.register(step)
        else:
            self._type, self._config = "function", {"function": STEP}
            registry.register(STEP, step)
        self._types = types
        self.runner = InProcessRunner(types, leases, cancel_grace_s=_GRACE_S, log_level="DEBUG")

    def call(self, config: dict[str, object], inputs: Mapping[str, object], context: Mapping[str, object]) -> StepCall:
        """Raises ValueError with everything that is wrong with the config or the source."""
        config = {**self._config, **config}
        problems = self._types.find(self._type).problems(config)
        if problems:
            raise ValueError("\n".join(map(str, problems)))
        return StepCall(
            principal=LOCAL,
            execution="execution",
            workflow="workflow",
            revision="revision",
            step=Step(name=STEP, type=self._type, config=config),
            attempt=1,
            config=config,
            inputs=_copied(inputs),
            context=_copied(context),
            idempotency_key=f"execution/{STEP}",
        )

    # what time has to know

    def calls_in_threads(self) -> int:
        stats = self.threads.stats()
        return stats.busy + stats.waiting - stats.abandoned

    def has_work(self) -> bool:
        return False


def _copied(values: Mapping[str, object]) -> dict[str, object]:
    copied = decode(encode(dict(values)))
    assert isinstance(copied, dict), "an object decodes to an object"
    return copied


class _Events:
    """`StepEvents` that keeps everything."""

    def __init__(self, run: StepRun) -> None:
        self._run = run

    async def progress(self, fraction: float, message: str, data: Payload | None) -> None:
        self._run.progress.append(Progress(fraction, message, None if data is None else decode(data)))

    async def emit(self, topic: str, value: Payload) -> None:
        self._run.events.append((topic, decode(value)))

    async def checkpoint(self, value: Payload) -> None:
        self._run.checkpoints.append(decode(value))

    def log(self, level: int, message: str, data: Mapping[str, object] | None = None) -> None:
        self._run.logs.append(LogLine(STEP, logging.getLevelName(level).lower(), message))


class _Resources:
    """`ResourceLeases` over the objects of a test."""

    def __init__(self, objects: Mapping[str, object]) -> None:
        self._objects = objects

    def open(
        self,
        principal: Principal,
        bindings: Mapping[str, Binding],
        *,
        execution: str,
        step: str,
        attempt: int,
        allowed: frozenset[str] | None,
    ) -> _Lease:
        return _Lease(self._objects)


class _Lease:
    def __init__(self, objects: Mapping[str, object]) -> None:
        self._objects = objects
        self._got: dict[str, object] = {}

    async def get(self, name: str) -> object:
        if name not in self._objects:
            known = ", ".join(sorted(self._objects)) or "none"
            raise ResourceError(
                f"the test gives the step no resource {name!r}; it gives: {known}", reason=Reason.RESOURCE_NOT_BOUND
            )
        if name not in self._got:
            resource = self._objects[name]
            self._got[name] = await resource.create() if isinstance(resource, FakeHttpApi) else resource
        return self._got[name]

    async def release(self) -> None:
        for resource in self._objects.values():
            if isinstance(resource, FakeHttpApi):
                await resource.close()
