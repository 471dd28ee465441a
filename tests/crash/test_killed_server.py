"""A server that is killed with SIGKILL and started again on the same folder and port."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import torana
from served.effects import CHAIN_STEPS, Act, recorded
from servers import ServerProcess, gates
from stores import on_both_stores

HASTY = torana.ReconnectPolicy(initial_s=0.02, max_s=0.2)
KILLS = 5
ACTS = 150


def told(events: list[torana.Event]) -> list[bytes]:
    return [event.proto.SerializeToString(deterministic=True) for event in events]


def of_kind(events: list[torana.Event], *kinds: str) -> list[torana.Event]:
    return [event for event in events if event.kind in kinds]


def completed_attempts(events: list[torana.Event]) -> dict[str, int]:
    return {event.step: event.attempt for event in of_kind(events, "step_completed")}


async def killed_while_reading(
    server: ServerProcess, stream: torana.ExecutionStream, moments: list[int]
) -> list[torana.Event]:
    """The events of `stream`; the server is killed and started again when those with these sequences arrive."""
    events = []
    async for event in stream:
        events.append(event)
        if moments and event.sequence >= moments[0]:
            del moments[0]
            server.kill()
            await asyncio.to_thread(server.start)
    return events


@pytest.mark.slow
@on_both_stores
async def test_a_stream_over_a_server_that_is_killed_again_and_again_is_whole_and_steps_that_completed_stay_so(
    server: ServerProcess, effects: Path, random_numbers: random.Random
) -> None:
    moments = sorted(random_numbers.sample(range(3, CHAIN_STEPS * ACTS * 2), KILLS))
    async with torana.Client(server.address, reconnect=HASTY) as client:
        stream = client.execute("chain", {"effects": str(effects), "acts": ACTS})
        seen = [await anext(stream)]

        def follow() -> list[torana.Event]:
            with torana.BlockingClient(server.address, reconnect=HASTY) as blocking:
                return list(blocking.watch(seen[0].execution))

        second = asyncio.create_task(asyncio.to_thread(follow))
        seen += await killed_while_reading(server, stream, moments)
        journal = [event async for event in client.watch(seen[0].execution)]
        assert told(seen) == told(journal) == told(await second)
    assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
    assert [event.kind for event in journal if event.is_terminal] == [journal[-1].kind] == ["completed"]
    assert len(of_kind(journal, "recovered")) >= KILLS
    assert_effects_agree(journal, recorded(effects))


def assert_effects_agree(journal: list[torana.Event], acts: list[Act]) -> None:
    """What the steps did outside is what the journal says they did, but for the act that each kill interrupted."""
    assert {act.step for act in acts} == completed_attempts(journal).keys()
    interruptions = len(of_kind(journal, "recovered"))
    assert CHAIN_STEPS * ACTS <= len(acts) <= CHAIN_STEPS * ACTS + interruptions
    order = [act.step for act in acts]
    assert order == sorted(order), "a step that completed ran again after its successor had begun"
    for step, attempt in completed_attempts(journal).items():
        of_step = [act for act in acts if act.step == step]
        assert {act.number for act in of_step} == set(range(1, ACTS + 1))
        assert len({act.key for act in of_step}) == 1, "the idempotency key changed"
        assert [act.attempt for act in of_step] == sorted(act.attempt for act in of_step)
        assert of_step[-1].attempt <= attempt
        assert_restored(journal, of_step)


def assert_restored(journal: list[torana.Event], acts: list[Act]) -> None:
    """Every attempt began with the last checkpoint that was durable when it started, and went on behind it."""
    checkpoints = {0: 0}
    for event in journal:
        if event.step == acts[0].step and event.kind == "step_checkpointed":
            checkpoints[event.attempt] = event.data["value"]
    for attempt in {act.attempt for act in acts}:
        first = next(act for act in acts if act.attempt == attempt)
        assert first.restored == max(value for number, value in checkpoints.items() if number < attempt)
        assert first.number == first.restored + 1


@pytest.mark.slow
@on_both_stores
async def test_what_was_acknowledged_right_before_the_kill_is_there_and_the_rest_is_safe_to_repeat(
    server: ServerProcess, effects: Path
) -> None:
    acknowledged: dict[str, str] = {}
    keys = [f"key-{number}" for number in range(400)]
    enough = asyncio.Event()

    async def start(client: torana.Client, key: str) -> None:
        started = await client.start_workflow("tiny", {"effects": str(effects)}, idempotency_key=key)
        acknowledged[key] = started.id
        if len(acknowledged) == len(keys) // 2:
            enough.set()

    async with torana.Client(server.address) as client:
        starting = [asyncio.create_task(start(client, key)) for key in keys]
        await enough.wait()
        server.kill()
        outcomes = await asyncio.gather(*starting, return_exceptions=True)
    lost = [outcome for outcome in outcomes if outcome is not None]
    assert all(isinstance(outcome, torana.errors.UnavailableError) for outcome in lost)
    before_kill = dict(acknowledged)
    assert before_kill.keys() < set(keys)

    server.start()
    async with torana.Client(server.address) as client:
        for execution in before_kill.values():
            assert (await client.get_execution(execution)).id == execution
        await asyncio.gather(*(start(client, key) for key in keys))
        assert {key: acknowledged[key] for key in before_kill} == before_kill
        results = await asyncio.gather(*(client.watch(execution).result() for execution in acknowledged.values()))
        assert {result.status for result in results} == {"completed"}
        listed = {execution.idempotency_key: execution.id async for execution in client.list_executions()}
        assert listed == acknowledged


@pytest.mark.slow
@on_both_stores
async def test_a_pending_retry_survives_the_kill_and_is_not_early(server: ServerProcess, effects: Path) -> None:
    async with torana.Client(server.address, reconnect=HASTY) as client:
        events = []
        async for event in client.execute("retries", {"effects": str(effects)}):
            events.append(event)
            if event.kind == "step_retrying":
                await asyncio.to_thread(server.restart)
    retrying, started = of_kind(events, "step_retrying", "step_started")[1:]
    assert (events[-1].kind, started.attempt) == ("completed", 2)
    assert started.time >= retrying.data["next_attempt_time"]
    assert [act.attempt for act in recorded(effects)] == [1, 2]


@pytest.mark.slow
@on_both_stores
async def test_an_interrupted_step_runs_again_and_its_predecessor_does_not(
    server: ServerProcess, effects: Path
) -> None:
    async with gates() as doors, torana.Client(server.address, reconnect=HASTY) as client:
        running = asyncio.create_task(
            client.execute_workflow("waits", {"effects": str(effects), "gates": doors.port, "gate": "middle"})
        )
        for _ in range(2):
            await doors.arrived("middle")
            await asyncio.to_thread(server.restart)
        await doors.arrived("middle")
        doors.open("middle")
        result = (await running).raise_for_status().result
    assert result == {"before": 1, "wait": 3, "after": 1}
    acts = recorded(effects)
    assert [(act.step, act.attempt) for act in acts] == [
        ("before", 1),
        *(("wait", attempt) for attempt in (1, 2, 3)),
        ("after", 1),
    ]
    assert len({act.key for act in acts if act.step == "wait"}) == 1


@pytest.mark.slow
async def test_a_step_that_is_interrupted_too_often_fails_and_brings_down_no_further_server(
    server: ServerProcess, effects: Path
) -> None:
    async with gates() as doors, torana.Client(server.address, reconnect=HASTY) as client:
        running = asyncio.create_task(
            client.execute_workflow("waits", {"effects": str(effects), "gates": doors.port, "gate": "deadly"})
        )
        for _ in range(1 + 5):
            await doors.arrived("deadly")
            await asyncio.to_thread(server.restart)
        result = await running
    assert result.status == "failed"
    assert result.error is not None
    assert (result.error.reason, result.error.step) == ("STEP_INTERRUPTED", "wait")
    assert sum(act.step == "wait" for act in recorded(effects)) == 6


@pytest.mark.slow
async def test_queued_executions_survive_the_kill_and_run_in_their_order(tmp_path: Path, effects: Path) -> None:
    server = ServerProcess("served.effects", tmp_path / "data", running_max=1)
    try:
        server.start()
        async with gates() as doors, torana.Client(server.address) as client:
            first = await client.start_workflow(
                "waits", {"effects": str(effects), "gates": doors.port, "gate": "place"}
            )
            await doors.arrived("place")
            queued = [await client.start_workflow("tiny", {"effects": str(effects)}) for _ in range(5)]
            assert [execution.state for execution in queued] == ["queued"] * 5
            await asyncio.to_thread(server.restart)
            await doors.arrived("place")
            assert [(await client.get_execution(q.id)).state for q in queued] == ["queued"] * 5
            doors.open("place")
            for execution in (first, *queued):
                assert (await client.watch(execution.id).result()).is_success
    finally:
        server.kill()
    tiny = [act.execution for act in recorded(effects) if act.execution != first.id]
    assert tiny == [execution.id for execution in queued for _ in ("first", "second")]


@pytest.mark.slow
async def test_an_execution_whose_function_is_gone_is_blocked_and_goes_on_when_it_is_back(
    server: ServerProcess, effects: Path
) -> None:
    async with gates() as doors, torana.Client(server.address, reconnect=HASTY) as client:
        running = await client.start_workflow(
            "optional", {"effects": str(effects), "gates": doors.port, "gate": "function"}
        )
        await doors.arrived("function")
        server.kill()
        server.workflows = "served.effects_without_optional"
        await asyncio.to_thread(server.start)
        blocked = await client.get_execution(running.id)
        assert blocked.state == "blocked"
        assert "act_and_wait" in blocked.blocked_reason
        assert [e.state async for e in client.list_executions()] == ["blocked"]
        watched = asyncio.create_task(client.watch(running.id).result())
        doors.open("function")
        server.kill()
        server.workflows = "served.effects"
        await asyncio.to_thread(server.start)
        assert (await watched).is_success
    assert [act.attempt for act in recorded(effects)] == [1, 2]
