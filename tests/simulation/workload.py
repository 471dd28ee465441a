"""Random workflows, and what their steps do: all of it drawn before the run, so that the checker knows it too."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from simulation.database import Database
from simulation.history import Begun, Finished, History, Saved
from simulation.machines import Machine, Universe
from simulation.world import joined
from torana_server.core.limits import INLINE_VALUE_BYTES_MAX
from torana_server.core.values import Payload
from torana_server.execution import EventKind
from torana_server.execution.events import StepCheckpointed
from torana_server.execution.ports import EventCodec
from torana_server.steps import StepCall, StepEvents, StepResult
from torana_server.workflow import Definition, Durability, RetryPolicy, Step, StepTimeout

ROUTES: Final = ("left", "right")
TOO_LARGE: Final = Payload('"' + "x" * INLINE_VALUE_BYTES_MAX + '"')
CANCEL_GRACE_S: Final = 2.0
ATTEMPT_S: Final = 4.0


class StepBrokeError(Exception):
    """What steps of the workload fail with."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the code of one step does. Attempts up to `failures` fail, those up to `hangs` do not return."""

    pauses_s: tuple[float, ...] = ()
    writes: tuple[str, ...] = ()
    """After each pause: "checkpoint", "progress", "emit" or "log"."""
    failures: int = 0
    error: type[BaseException] = StepBrokeError
    hangs: int = 0
    stubborn: bool = False
    """Whether it ignores its first cancellation."""
    too_large: int = 0
    """Attempts up to this one return a value that cannot be stored."""
    route: str = ""


@dataclass
class Workload:
    definitions: list[Definition] = field(default_factory=list)
    behaviours: dict[tuple[str, str], Behaviour] = field(default_factory=dict)

    @classmethod
    def drawn(cls, chance: random.Random) -> Workload:
        workload = cls()
        for index in range(chance.randrange(1, 3)):
            workload._draw(chance, f"flow{index}")
        return workload

    def _draw(self, chance: random.Random, name: str) -> None:
        count = chance.randrange(1, 6)
        names = [f"s{index}" for index in range(count)]
        switches = [chance.random() < 0.2 for _ in names]
        connections = []
        for target in range(1, count):
            for source in range(target):
                if chance.random() < 0.4:
                    routes = ["", "", "error", *(ROUTES if switches[source] else ())]
                    connections.append(f"{names[source]}>{names[target]}:{chance.choice(routes)}")
        steps = tuple(self._step(chance, step, switch) for step, switch in zip(names, switches, strict=True))
        for step, switch in zip(names, switches, strict=True):
            self.behaviours[name, step] = _behaviour(chance, switch)
        self.definitions.append(
            Definition(
                name=name,
                steps=steps,
                connections=joined(*connections),
                timeout_s=chance.choice((None, None, None, 4.0)),
                durability=chance.choice((Durability.EVERY_STEP, *Durability)),
                durability_steps=2,
            )
        )

    def _step(self, chance: random.Random, name: str, switch: bool) -> Step:
        retry = RetryPolicy(
            max_attempts=chance.choice((2, 3, 9)),
            initial_interval_s=chance.choice((0.5, 1.0, 8.0)),
            backoff=1.0,
            jitter=0.5,
        )
        return Step(
            name=name,
            type="switch" if switch else "work",
            config={"routes": list(ROUTES)} if switch else {},
            retry=retry if chance.random() < 0.6 else None,
            timeout=StepTimeout(attempt_s=ATTEMPT_S, total_s=chance.choice((None, None, 15.0))),
        )


def _behaviour(chance: random.Random, switch: bool) -> Behaviour:
    pauses = tuple(chance.choice((0, 0, 0.05, 0.5, 1.5)) for _ in range(chance.randrange(4)))
    troubled = chance.random() < 0.45
    return Behaviour(
        pauses_s=pauses,
        writes=tuple(chance.choice(("checkpoint", "checkpoint", "progress", "emit", "log", "")) for _ in pauses),
        failures=chance.choice((0, 1, 1, 2, 9)) if troubled else 0,
        error=chance.choice((StepBrokeError, StepBrokeError, SystemExit, asyncio.CancelledError)),
        hangs=chance.choice((0, 0, 1)) if troubled else 0,
        stubborn=troubled and chance.random() < 0.3,
        too_large=chance.choice((0, 0, 0, 1, 9)) if troubled else 0,
        route=chance.choice(ROUTES) if switch else "",
    )


class Runner:
    """Runs the workload's steps on one machine and writes down what they really did."""

    cancel_grace_s = CANCEL_GRACE_S

    def __init__(
        self,
        universe: Universe,
        machine: Machine,
        workload: Workload,
        database: Database,
        history: History,
        codec: EventCodec,
        replica: Callable[[], int],
    ) -> None:
        self._universe = universe
        self._machine = machine
        self._workload = workload
        self._database = database
        self._history = history
        self._codec = codec
        self._replica = replica

    async def run(self, call: StepCall, events: StepEvents) -> StepResult:
        behaviour = self._workload.behaviours[call.workflow, call.step.name]
        effect = self._universe.number()
        self._begin(effect, call)
        try:
            await self._pauses(behaviour, effect, call, events)
            if call.attempt <= behaviour.hangs:
                await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            if behaviour.stubborn:
                await asyncio.sleep(CANCEL_GRACE_S * 2 * self._universe.chance.random())
            raise
        if call.attempt <= behaviour.failures:
            raise behaviour.error("as it was told to")
        if call.attempt <= behaviour.too_large:
            self._finish(effect, "")
            return StepResult(TOO_LARGE)
        output = f'{{"effect":{effect}}}'
        self._finish(effect, output)
        return StepResult(Payload(output), behaviour.route)

    def _finish(self, effect: int, output: str) -> None:
        if self._machine.alive:
            self._history.add(Finished(self._universe.now_s, effect, output))

    async def _pauses(self, behaviour: Behaviour, effect: int, call: StepCall, events: StepEvents) -> None:
        for number, (pause_s, what) in enumerate(zip(behaviour.pauses_s, behaviour.writes, strict=True)):
            await asyncio.sleep(pause_s)
            if what == "checkpoint":
                value = f'"{effect}.{number}"'
                await events.checkpoint(Payload(value))
                if self._machine.alive:
                    recorded = self._is_recorded(call, partial(self._holds_checkpoint, value))
                    self._history.add(Saved(self._universe.now_s, effect, value, recorded))
            elif what == "progress":
                await events.progress(0.5, "half", None)
            elif what == "emit":
                await events.emit("topic", Payload(str(number)))
            elif what == "log":
                events.log(20, "a line")

    def abandon(self, call: StepCall) -> None:
        """It ends by itself, without effect."""

    async def close(self) -> None:
        """There is nothing to wait for."""

    def _begin(self, effect: int, call: StepCall) -> None:
        if not self._machine.alive:
            return
        recorded = self._is_recorded(call, lambda data: self._codec.decode(data).attempt == call.attempt)
        restored = None if call.restored is None else call.restored.json
        row = self._database.rows[call.execution]
        self._history.add(
            Begun(
                self._universe.now_s,
                self._machine.name,
                effect,
                call.execution,
                call.step.name,
                call.attempt,
                call.idempotency_key,
                restored,
                recorded,
                row.owner == self._replica(),
            )
        )

    def _is_recorded(self, call: StepCall, matches: Callable[[bytes], bool]) -> bool:
        """Whether the journal holds a start or checkpoint of the step that matches."""
        kinds = (EventKind.STEP_STARTED, EventKind.STEP_CHECKPOINTED)
        events = self._database.rows[call.execution].events
        return any(e.step == call.step.name and e.kind in kinds and matches(e.data) for e in reversed(events))

    def _holds_checkpoint(self, value: str, data: bytes) -> bool:
        body = self._codec.decode(data).body
        return isinstance(body, StepCheckpointed) and body.value.json == value
