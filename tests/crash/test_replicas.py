"""Several servers on one PostgreSQL that are killed, paused, drained and exchanged."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

import torana
from integration.conftest import PostgresServer, postgres_server, temporary_root
from served import ledger
from served.effects import recorded
from servers import Gates, ServerProcess, gates, running_server

__all__ = ["postgres_server", "temporary_root"]

KEYS = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
HASTY = torana.ReconnectPolicy(initial_s=0.02, max_s=0.2)
TAKE_OVER_S_MAX = 10.0
"""Promised with the default settings."""
TROUBLES = 9
CALLERS = 6

Start = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Start]:
    """Starts one more server on the same database."""
    database = postgres_server.database("blank").url
    with ExitStack() as servers:

        def started(workflows: str = "served.effects", **settings: object) -> ServerProcess:
            folder = tmp_path / f"data{time.monotonic_ns()}"
            given = {"journal": database, "vault_keys": KEYS, **settings}
            return servers.enter_context(running_server(workflows, folder, **given))

        yield started


@pytest.fixture
def effects_database(postgres_server: PostgresServer) -> str:
    """A database of its own, where steps record what they do."""
    return postgres_server.database("blank").url


async def waiting(client: torana.Client, doors: Gates, effects: Path) -> torana.Execution:
    """An execution whose second step waits at the gate "wait"."""
    started = await client.start_workflow("waits", {"effects": str(effects), "gates": doors.port, "gate": "wait"})
    await doors.arrived("wait")
    return started


def acts_of_waits(effects: Path) -> list[tuple[str, int]]:
    return [(act.step, act.attempt) for act in recorded(effects)]


@pytest.mark.slow
async def test_any_server_watches_and_cancels_any_execution(start: Start, effects: Path) -> None:
    one, other = start(), start()
    async with gates() as doors, torana.Client(one.address) as here, torana.Client(other.address) as there:
        started = await waiting(here, doors, effects)
        of_all = asyncio.create_task(to_the_end(there))
        watched = asyncio.create_task(there.watch(started.id).result())
        await there.cancel_execution(started.id, "enough")
        async with asyncio.timeout(TAKE_OVER_S_MAX):
            assert (await watched).status == "cancelled"
            assert told(await of_all) == told([event async for event in there.watch(started.id)])
        assert (await here.get_execution(started.id)).state == "cancelled"


async def to_the_end(client: torana.Client) -> list[torana.Event]:
    """What whoever watches all executions is told, up to the first end."""
    events = []
    async with client.watch_executions(cursor="0") as feed:
        async for event in feed:
            events.append(event)
            if event.is_terminal:
                break
    return events


@pytest.mark.slow
async def test_what_a_killed_server_ran_goes_on_elsewhere_within_ten_seconds(start: Start, effects: Path) -> None:
    one, other = start(), start()
    async with gates() as doors, torana.Client(one.address) as here, torana.Client(other.address) as there:
        started = await waiting(here, doors, effects)
        watched = asyncio.create_task(there.watch(started.id).result())
        one.kill()
        killed = time.monotonic()
        await doors.arrived("wait")
        took_s = time.monotonic() - killed
        print(f"taken over after {took_s:.1f} s")
        doors.open("wait")
        assert (await watched).status == "completed"
    assert took_s < TAKE_OVER_S_MAX
    assert acts_of_waits(effects) == [("before", 1), ("wait", 1), ("wait", 2), ("after", 1)]


@pytest.mark.slow
async def test_a_server_that_drains_hands_over_at_once(start: Start, effects: Path) -> None:
    one, other = start(drain_grace_s=0, lease_s=60), start(lease_s=60)
    async with gates() as doors, torana.Client(one.address) as here, torana.Client(other.address) as there:
        started = await waiting(here, doors, effects)
        one.terminate()
        async with asyncio.timeout(30):  # half of a lease
            await doors.arrived("wait")
        doors.open("wait")
        assert (await there.watch(started.id).result()).status == "completed"
        assert one.wait() == 0
    assert acts_of_waits(effects) == [("before", 1), ("wait", 1), ("wait", 2), ("after", 1)]


@pytest.mark.slow
async def test_a_server_that_was_paused_and_wakes_writes_nothing_of_what_others_took_over(
    start: Start, effects: Path
) -> None:
    one, other = start(lease_s=1), start(lease_s=1)
    async with gates() as doors, torana.Client(one.address) as here, torana.Client(other.address) as there:
        started = await waiting(here, doors, effects)
        one.pause()
        await doors.arrived("wait")
        doors.open("wait")  # for both
        result = await there.watch(started.id).result()
        one.resume()
        assert result.status == "completed"
        again = await here.start_workflow("tiny", {"effects": str(effects)})
        assert (await here.watch(again.id).result()).status == "completed"
        journal = [event async for event in here.watch(started.id)]
    assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
    assert [event.kind for event in journal if event.is_terminal] == ["completed"] == [journal[-1].kind]
    acts = [(act.step, act.attempt) for act in recorded(effects) if act.execution == started.id]
    assert acts == [("before", 1), ("wait", 1), ("wait", 2), ("after", 1)]
    assert "longer than its lease" in one.log.read_text()


@pytest.mark.slow
async def test_in_a_rolling_deploy_a_server_leaves_alone_what_it_cannot_run(start: Start, effects: Path) -> None:
    old, new = start(lease_s=1), start("served.effects_without_optional", lease_s=1)
    async with gates() as doors, torana.Client(old.address) as here, torana.Client(new.address) as there:
        running = await here.start_workflow(
            "optional", {"effects": str(effects), "gates": doors.port, "gate": "function"}
        )
        await doors.arrived("function")
        assert (await there.get_execution(running.id)).state == "running"
        old.kill()
        async with asyncio.timeout(TAKE_OVER_S_MAX):
            while (blocked := await there.get_execution(running.id)).state != "blocked":  # noqa: ASYNC110 — no event
                await asyncio.sleep(0.05)
        assert "act_and_wait" in blocked.blocked_reason
        doors.open("function")
        start(lease_s=1)
        assert (await there.watch(running.id).result()).is_success
    assert [act.attempt for act in recorded(effects)] == [1, 2]


@pytest.mark.slow
async def test_callers_with_one_key_on_several_servers_stream_one_execution(start: Start, effects: Path) -> None:
    servers = [start(), start()]
    clients = [torana.Client(server.address) for server in servers]
    try:
        streams = [
            clients[number % 2].execute("tiny", {"effects": str(effects)}, idempotency_key=f"k{number % 4}")
            for number in range(24)
        ]
        told = await asyncio.gather(*(everything(stream) for stream in streams))
    finally:
        for client in clients:
            await client.close()
    for key in range(4):
        of_key = told[key::4]
        assert all(events == of_key[0] for events in of_key)
    assert len(recorded(effects)) == 4 * 2


async def everything(stream: torana.ExecutionStream) -> list[tuple[str, int, str]]:
    return [(event.execution, event.sequence, event.kind) async for event in stream]


@pytest.mark.slow
async def test_under_load_on_servers_that_are_killed_paused_and_drained_nothing_is_lost_or_done_twice(
    start: Start, effects_database: str, random_numbers: random.Random
) -> None:
    connection = await asyncpg.connect(effects_database)
    await connection.execute(ledger.TABLE)
    await connection.close()
    servers = [start("served.ledger", lease_s=1, drain_grace_s=0.2) for _ in range(3)]
    finished: dict[str, list[torana.Event]] = {}
    enough = asyncio.Event()

    async def call(number: int) -> None:
        async with torana.Client(servers[number % len(servers)].address, reconnect=HASTY) as client:
            while not enough.is_set():
                events = [event async for event in client.execute("counted", {"ledger": effects_database})]
                finished[events[0].execution] = events

    calling = [asyncio.create_task(call(number)) for number in range(CALLERS)]
    for _ in range(TROUBLES):
        await asyncio.to_thread(trouble, random_numbers.choice(servers), random_numbers)
    enough.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*calling)
    print(f"{len(finished)} executions through {TROUBLES} troubles")
    async with torana.Client(servers[0].address, reconnect=HASTY) as client:
        listed = [execution async for execution in client.list_executions()]
        journals = {execution.id: [event async for event in client.watch(execution.id)] for execution in listed}
    assert finished.keys() <= journals.keys()
    for execution, events in finished.items():
        assert told(events) == told(journals[execution]), "a stream differs from the journal"
    check_journals(journals)
    check_effects(journals, await ledger.effects(effects_database))


def trouble(server: ServerProcess, random_numbers: random.Random) -> None:
    """One of what happens to servers; when it returns, all of them serve again."""
    match random_numbers.choice(("kill", "pause", "drain")):
        case "kill":
            server.restart()
        case "pause":
            server.pause()
            time.sleep(2.5)  # longer than the lease: what a pause is
            server.resume()
        case "drain":
            server.stop()
            server.start()


def told(events: list[torana.Event]) -> list[bytes]:
    return [event.proto.SerializeToString(deterministic=True) for event in events]


def check_journals(journals: dict[str, list[torana.Event]]) -> None:
    """Each without a gap, with one end, and with each step completed once."""
    for events in journals.values():
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event.kind for event in events if event.is_terminal] == ["completed"] == [events[-1].kind]
        assert sorted(e.step for e in events if e.kind == "step_completed") == sorted(ledger.STEPS)


def check_effects(journals: dict[str, list[torana.Event]], effects: list[ledger.Effect]) -> None:
    """No step ran after it had completed, and no attempt twice."""
    by_step: dict[tuple[str, str], list[ledger.Effect]] = defaultdict(list)
    for effect in effects:
        by_step[effect.execution, effect.step].append(effect)
    completed = {
        (execution, event.step): event.attempt
        for execution, events in journals.items()
        for event in events
        if event.kind == "step_completed"
    }
    assert by_step.keys() == completed.keys()
    for step, of_step in by_step.items():
        attempts = [effect.attempt for effect in of_step]
        assert len(set(attempts)) == len(attempts), f"an attempt of {step} ran twice"
        assert max(attempts) == completed[step], f"{step} ran again after it had completed"
        assert len({effect.key for effect in of_step}) == 1
