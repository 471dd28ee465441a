"""Whole servers on one journal: random plans, steps that fail, stores that fail, servers that die."""

from __future__ import annotations

import asyncio
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulation.journals import UnreliableJournal
from simulation.virtual_time import simulate
from simulation.world import CALLER, Routed, ScriptedRunner, World, check_history, work
from torana_server.core.errors import StateError, UnavailableError
from torana_server.core.values import Payload
from torana_server.execution import AdmissionLimits, Event
from torana_server.execution.events import Completed
from torana_server.steps import StepCall, StepEvents, StepResult
from torana_server.workflow import Definition
from unit.execution.histories import ROUTES, definitions

LONG_S = 100_000.0
"""Of virtual time: far more than three lives need."""


class Chance(ScriptedRunner):
    """Steps that take their time, write, fail, and choose a route, as chance has it."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.completed: list[tuple[str, str]] = []

    async def run(self, call: StepCall, events: StepEvents) -> StepResult:
        self.scripts[call.step.name] = self.script
        return await super().run(call, events)

    async def script(self, call: StepCall, events: StepEvents) -> object:
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(self.chance.choice([0, 0, 0.3, 5, 20]))
            match self.chance.randrange(6):
                case 0:
                    await events.progress(0.5, "half", None)
                case 1:
                    await events.checkpoint(Payload(str(call.attempt)))
                case 2:
                    raise self.chance.choice([ValueError, asyncio.CancelledError, SystemExit])("by chance")
        return Routed({}, self.chance.choice(ROUTES)) if call.step.type == "switch" else {"step": call.step.name}


async def trouble(world: World, executions: list[str], chance: random.Random) -> None:
    """What a day may bring, short of the server's death."""
    journal = world.journal
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(chance.choice([0, 0.1, 1, 10]))
        match chance.randrange(4):
            case 0:
                journal.lost_answers = chance.randrange(3)
            case 1:
                journal.outages = chance.randrange(4)
            case 2:
                journal.commit_delay_s = chance.choice([0.0, 0.05, 1.0])
            case 3:
                try:
                    await world.engine.cancel(CALLER, chance.choice(executions), "by chance")
                except (StateError, UnavailableError):
                    continue


async def follow(world: World, execution: str, seen: list[Event]) -> None:
    """A client: comes back with its cursor whatever happens, until it has the end."""
    while True:
        try:
            watch = await world.engine.watch(CALLER, execution, len(seen))
            while not watch.ended and not watch.draining:
                batch = await watch.next(5)
                assert asyncio.get_running_loop().time() < LONG_S, "the execution does not end"
                if batch is not None:
                    assert batch.after_sequence == len(seen)
                    assert batch.through_sequence <= world.journal.through[execution], "seen before it was durable"
                    seen += [world.codec.decode(event.data) for event in batch.events]
            watch.close()
            if watch.ended or watch.draining:
                return
        except UnavailableError:
            await asyncio.sleep(0.5)


async def scenario(definition: Definition, seed: int) -> None:
    chance = random.Random(seed)
    world = World(
        runner=Chance(chance), journal=UnreliableJournal(), limits=AdmissionLimits(running=chance.choice([2, 9]))
    )
    world.workflows.register(definition)
    await world.engine.open()
    world.engine.go_on()
    executions = [await world.start(definition.name) for _ in range(3)]
    histories: dict[str, list[Event]] = {execution: [] for execution in executions}
    for life in range(3):
        clients = [asyncio.ensure_future(follow(world, execution, seen)) for execution, seen in histories.items()]
        if life < 2:
            await trouble(world, executions, chance)
            if chance.random() < 0.5:
                await world.engine.drain(chance.choice([0, 5]))
                await asyncio.gather(*clients)
            else:
                for client in clients:
                    client.cancel()
                await asyncio.gather(*clients, return_exceptions=True)
                await world.crash()
            world.journal.lose_owner()
            world.journal.lost_answers, world.journal.outages, world.journal.commit_delay_s = 0, 0, 0.0
            world = world.restarted(runner=Chance(chance))
            await world.engine.open()
            world.engine.go_on()
        else:
            await asyncio.gather(*clients)
    for execution, seen in histories.items():
        check_history(seen)
        assert seen == await world.events(execution)
    assert await settled(world) == (0, 0, 0)
    await world.engine.drain(1)
    await world.engine.close()


async def settled(world: World) -> tuple[int, int, int]:
    await asyncio.sleep(30)
    counts = await world.engine.counts()
    return counts["executions_driven"], counts["admission_running"], counts["feed_tail_bytes"]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(definitions(), st.integers(0, 2**32))
def test_every_execution_ends_once_and_every_client_has_seen_all_of_it(definition: Definition, seed: int) -> None:
    simulate(scenario(definition, seed))


def test_chance_does_complete_executions() -> None:
    """Else the rule above would say little."""
    ends: list[bool] = []

    async def one(seed: int) -> None:
        world = World(runner=Chance(random.Random(seed)))
        async with world.open():
            world.workflows.register(Definition(name="flow", steps=(work("a"), work("b"))))
            events = await world.watched(await world.start("flow"))
            ends.append(isinstance(events[-1].body, Completed))

    for seed in range(30):
        simulate(one(seed))
    assert 5 < sum(ends) < 30
