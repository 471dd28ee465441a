from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from pathlib import Path
from unittest.mock import AsyncMock, MagicMock, patch

import pytest

from integration.testing.workflows import DAILY, payment, source, waits
from torana_server import ResourceReference, Settings, StateError, StepTimeout, WorkflowBuilder, WorkflowRequest
from torana_server.core.errors import ConflictError, ExecutionNotFoundError
from torana_server.testing import (
    FakeCache,
    FakeDatabase,
    FakeHttpApi,
    MemoryDisk,
    MemoryGateway,
    StuckError,
    run_in_virtual_time,
    virtual_time,
)

REAL_S_MAX = 10.0
"""What a test of virtual time may take at most, on a machine that is busy."""


async def test_it_runs_a_workflow_and_tells_everything_that_happened() -> None:
    async with MemoryGateway() as gateway:
        run = await gateway.record(source("logger.info('working'); return {'n': n + 1}"), {"n": 1})
    run.assert_completed(only={"n": 2}).assert_happened("accepted", "only started", "only completed", "completed")
    assert [line.message for line in run.logs("only")] == ["working"]


async def test_a_registered_workflow_is_run_by_its_name_with_a_whole_request() -> None:
    async with MemoryGateway() as gateway:
        name = gateway.register(source("return context.get('user')"))
        run = await gateway.record(name, WorkflowRequest(context={"user": "ann"}, labels={"a": "b"}))
    assert (name, run.assert_completed().result) == ("flow", {"only": "ann"})


async def test_it_touches_no_file_no_environment_and_no_logging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORANA_RUNNING_MAX", "not a number")
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    async with MemoryGateway() as gateway:
        (await gateway.record(source("return 1"))).assert_completed()
    assert os.listdir(tmp_path) == []
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)


async def test_it_says_nothing_about_forgetting(caplog: pytest.LogCaptureFixture) -> None:
    async with MemoryGateway() as gateway:
        await gateway.record(source("return 1"))
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "reference",
    [
        {},
        {"db": "@db"},
        {"db": ResourceReference(type="database", config={"host": "db.example.com", "database": "sales"})},
        {"db": {"type": "not_even_a_type"}},
    ],
)
async def test_a_fake_is_what_its_name_means_whatever_the_request_says(reference: dict[str, object]) -> None:
    database = FakeDatabase().answers("SELECT 1", 1)
    workflow = source("db = await get_resource('db')\nreturn await db.fetchval('SELECT 1')", required_resources=["db"])
    async with MemoryGateway(resources={"db": database}) as gateway:
        run = await gateway.record(workflow, WorkflowRequest(resources=reference))  # type: ignore[arg-type] # any form
        run.assert_completed(only=1)


async def test_the_resolver_can_be_patched() -> None:
    database = MagicMock()
    database.acquire.return_value.__aenter__.return_value.fetch = AsyncMock(return_value=[{"id": 1, "name": "test"}])
    workflow = source(
        """
        db = await get_resource("db")
        async with db.acquire() as connection:
            return await connection.fetch("SELECT * FROM users")
        """,
        required_resources=["db"],
    )
    request = WorkflowRequest(resources={"db": ResourceReference(type="database", config={"host": "db.example.com"})})
    async with MemoryGateway() as gateway:
        with patch.object(gateway._resource_resolver, "resolve", return_value=database):
            (await gateway.record(workflow, request)).assert_completed(only=[{"id": 1, "name": "test"}])


async def test_a_name_is_bound_once() -> None:
    async with MemoryGateway(resources={"db": FakeDatabase()}) as gateway:
        with pytest.raises(ConflictError, match="'db'"):
            gateway.bind("db", FakeDatabase())


async def test_secrets_are_kept_in_memory_and_reach_resources() -> None:
    async with MemoryGateway() as gateway:
        await gateway.secret_manager.store_secret("api", {"token": "t0ken-of-the-api"})
        assert await gateway.secret_manager.get_secret("api") == {"token": "t0ken-of-the-api"}


async def test_retries_a_day_apart_take_no_time() -> None:
    began = time.monotonic()
    api = FakeHttpApi().answers("POST", "/charges", {"ok": True}).fails("POST", "/charges", 503, times=2)
    database = FakeDatabase().answers("INSERT INTO notes", None)
    async with virtual_time(), MemoryGateway(resources={"payments": api, "db": database}) as gateway:
        run = await gateway.record(payment(), {"amount": 5})
    assert run.assert_completed(charge={"ok": True}).retries("charge") == [86_400.0, 172_800.0]
    assert run.assert_attempts(charge=3, note=1).duration_s == pytest.approx(259_200, abs=1)
    assert len(api.asked("POST", "/charges")) == 3
    assert time.monotonic() - began < REAL_S_MAX


async def test_a_step_timeout_of_five_minutes_takes_no_time() -> None:
    async with virtual_time(), MemoryGateway() as gateway:
        run = await gateway.record(waits())
    run.assert_failed(step="wait", type="STEP_TIMEOUT")
    assert run.duration_s == pytest.approx(300, abs=0.1)


async def test_a_timeout_of_a_request_takes_no_time() -> None:
    async with virtual_time(), MemoryGateway() as gateway:
        gateway.register(source("await asyncio.sleep(7200)", timeout=StepTimeout(attempt_s=36_000)))
        run = await gateway.record("flow", WorkflowRequest(timeout=3_600))
    run.assert_failed(type="EXECUTION_TIMEOUT").assert_happened("only cancelled", "failed")


async def test_waiting_in_the_queue_ends_after_its_timeout() -> None:
    settings = Settings.model_construct(running_max=1, queue_timeout_s=600.0, drain_grace_s=0.0)
    async with virtual_time(), MemoryGateway(settings=settings) as gateway:
        gateway.register(source("await asyncio.sleep(3600)", timeout=StepTimeout(attempt_s=36_000)))
        first = asyncio.create_task(gateway.record("flow"))
        await asyncio.sleep(1)
        second = await gateway.record("flow")
        second.assert_failed(type="QUEUE_TIMEOUT").assert_never("started", "only started")
        (await first).assert_completed()


async def test_a_plain_function_that_takes_real_time_beats_its_virtual_timeout() -> None:
    def works() -> str:
        threading.Event().wait(0.2)
        return "done"

    workflow = WorkflowBuilder("threads").add_step("work", works, timeout=1).build()
    async with virtual_time(), MemoryGateway() as gateway:
        run = await gateway.record(workflow)
    assert run.assert_completed(work="done").duration_s == 0


async def test_time_moves_by_hand_too() -> None:
    async with virtual_time() as clock, MemoryGateway() as gateway:
        running = asyncio.create_task(gateway.record(source("await asyncio.sleep(100)")))
        await clock.advance(99)
        assert not running.done()
        await clock.advance(1)
        (await running).assert_completed()


async def test_a_cache_forgets_in_virtual_time_between_two_runs() -> None:
    step = "cache = await get_resource('cache')\nreturn await cache.set('seen', 1, nx=True, ex=3600)"
    workflow = source(step, required_resources=["cache"])
    async with virtual_time() as clock, FakeCache() as cache, MemoryGateway(resources={"cache": cache}) as gateway:
        (await gateway.record(workflow)).assert_completed(only=True)
        (await gateway.record(workflow)).assert_completed(only=None)
        await clock.advance(3_601)
        (await gateway.record(workflow)).assert_completed(only=True)


async def test_clients_reach_it_over_grpc() -> None:
    thresholds = gc.get_threshold()
    async with MemoryGateway(resources={"db": FakeDatabase().answers("SELECT 1", 1)}) as gateway:
        gateway.register(source("db = await get_resource('db')\nreturn await db.fetchval('SELECT 1')"))
        async with gateway.client() as client:
            result = await client.execute_workflow("flow", resources={"db": "@db"})
    assert result.result == {"only": 1}
    assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, 0)


async def test_a_crashed_gateway_leaves_what_the_next_one_goes_on_with() -> None:
    disk = MemoryDisk()
    stuck = source("await asyncio.sleep(0 if ctx.attempt > 1 else 1e6)\nreturn ctx.attempt")
    async with virtual_time():
        first = MemoryGateway(disk=disk)
        await first.secret_manager.store_secret("kept", {"a": "b" * 20})
        execution = await first.start_workflow(first.register(stuck))
        await asyncio.sleep(1)
        await first.crash()
        async with MemoryGateway(disk=disk) as second:
            second.register(stuck)
            run = await second.recording(execution)
            assert await second.secret_manager.get_secret("kept") == {"a": "b" * 20}
    run.assert_completed(only=2).assert_happened("only started", "recovered", "only started", "only completed")


async def test_an_execution_that_the_next_gateway_cannot_run_is_an_error_instead_of_a_wait_for_ever() -> None:
    async def wait() -> None:
        await asyncio.sleep(100)

    async def crash_and_go_on_without_the_function() -> None:
        first = MemoryGateway()
        execution = await first.start_workflow(first.register(WorkflowBuilder("w").add_step("wait", wait).build()))
        await asyncio.sleep(1)
        await first.crash()
        async with MemoryGateway(disk=first.disk) as second:
            await second.recording(execution)

    with pytest.raises(StuckError, match="executions wait for what this server does not have"):
        await asyncio.to_thread(lambda: run_in_virtual_time(crash_and_go_on_without_the_function()))


async def test_a_gateway_that_crashed_is_over() -> None:
    gateway = MemoryGateway()
    await gateway.start()
    await gateway.crash()
    with pytest.raises(StateError, match="closed"):
        await gateway.record(source("return 1"))
    await gateway.close()


async def test_closing_cancels_what_still_runs_at_once() -> None:
    async with virtual_time() as clock:
        async with MemoryGateway() as gateway:
            await gateway.start_workflow(gateway.register(source("await asyncio.sleep(1e6)")))
            await asyncio.sleep(1)
        assert clock.elapsed_s < 2


async def test_an_execution_that_is_not_there_is_an_error() -> None:
    async with MemoryGateway() as gateway:
        with pytest.raises(ExecutionNotFoundError):
            await gateway.recording("0190b0a0-0000-7000-8000-000000000000")


async def test_a_day_of_virtual_time_costs_the_server_few_wakes() -> None:
    began = time.monotonic()
    async with virtual_time() as clock, MemoryGateway() as gateway:
        for _ in range(30):
            await clock.advance(DAILY.initial_interval_s)
        (await gateway.record(source("return 1"))).assert_completed()
    assert time.monotonic() - began < REAL_S_MAX
