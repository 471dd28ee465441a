from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import uvloop

from torana_server.testing import StuckError, run_in_virtual_time, virtual_time
from torana_server.testing.virtual_time import LoopClock

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_S = 365 * 86_400.0
REAL_S_MAX = 5.0
"""What a test of virtual time may take at most, on a machine that is busy."""


async def test_years_of_sleep_takes_no_time() -> None:
    began = time.monotonic()
    async with virtual_time(START) as clock:
        await asyncio.sleep(YEAR_S)
        await asyncio.sleep(YEAR_S)
        assert clock.datetime == START + timedelta(days=730)
        assert clock.elapsed_s == pytest.approx(2 * YEAR_S)
    assert time.monotonic() - began < REAL_S_MAX


async def test_timers_fire_in_order_each_at_its_time() -> None:
    seen: list[tuple[str, float]] = []

    async def after(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        seen.append((name, round(clock.elapsed_s, 6)))

    async with virtual_time() as clock:
        await asyncio.gather(after("last", 7_200), after("first", 0.5), after("middle", 60))
    assert seen == [("first", 0.5), ("middle", 60.0), ("last", 7_200.0)]


async def test_advance_lets_everything_due_by_then_happen_and_nothing_later() -> None:
    async with virtual_time() as clock:
        early, late = asyncio.create_task(asyncio.sleep(10)), asyncio.create_task(asyncio.sleep(10.001))
        await clock.advance(10)
        assert (early.done(), late.done()) == (True, False)
        await clock.advance(0.001)
        assert late.done()


async def test_settled_returns_once_all_wait_for_time_and_time_has_not_moved() -> None:
    async with virtual_time() as clock:
        steps = 0

        async def busy() -> None:
            nonlocal steps
            for steps in range(1, 101):  # noqa: B007 — looked at from outside
                await asyncio.sleep(0)
            await asyncio.sleep(1)

        task = asyncio.create_task(busy())
        await clock.settled()
        assert (steps, clock.elapsed_s, task.done()) == (100, 0.0, False)
        await task


async def test_time_does_not_go_back() -> None:
    async with virtual_time() as clock:
        with pytest.raises(ValueError, match="forward"):
            await clock.advance(-1)


async def test_a_timeout_wins_against_what_takes_longer() -> None:
    async with virtual_time() as clock:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                await asyncio.sleep(301)
        assert clock.elapsed_s == pytest.approx(300)


async def test_time_stands_still_while_a_call_in_a_thread_runs() -> None:
    async with virtual_time() as clock:
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.1), timeout=60)
        assert clock.elapsed_s == 0


async def test_time_moves_while_a_thread_waits_for_the_loop() -> None:
    loop = asyncio.get_running_loop()

    def asks_the_loop_to_sleep() -> str:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(3_600), loop).result()
        return "slept"

    began = time.monotonic()
    async with virtual_time() as clock:
        assert await asyncio.to_thread(asks_the_loop_to_sleep) == "slept"
        assert clock.elapsed_s == pytest.approx(3_600)
    assert time.monotonic() - began < REAL_S_MAX


async def test_a_thread_that_hangs_holds_time_for_its_patience_only() -> None:
    released = threading.Event()
    async with virtual_time(thread_patience_s=0.05) as clock:
        hanging = asyncio.create_task(asyncio.to_thread(released.wait))
        await asyncio.wait([hanging], timeout=300)
        assert not hanging.done()
        assert clock.elapsed_s == pytest.approx(300)
        released.set()
        assert await hanging


async def test_sockets_work_and_time_waits_for_them() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with virtual_time() as clock:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            assert await asyncio.wait_for(reader.readline(), timeout=3_600) == b"hello\n"
            writer.close()
        assert clock.elapsed_s == 0


async def test_when_it_ends_time_goes_on_at_its_pace_from_where_it_is() -> None:
    loop = asyncio.get_running_loop()
    async with virtual_time():
        await asyncio.sleep(86_400)
        there = loop.time()
    began = time.monotonic()
    await asyncio.sleep(0.01)
    assert there + 0.01 <= loop.time() < there + REAL_S_MAX
    assert time.monotonic() - began >= 0.01


async def test_it_can_begin_again_but_not_twice_at_once() -> None:
    for _ in range(2):
        async with virtual_time() as clock:
            await asyncio.sleep(60)
            assert clock.elapsed_s == pytest.approx(60)
            with pytest.raises(RuntimeError, match="virtual already"):
                async with virtual_time():
                    pass


def test_waiting_for_ever_is_an_error_that_says_who_waits() -> None:
    async def waits_for_nobody() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match="waits_for_nobody"):
        run_in_virtual_time(waits_for_nobody())


def test_a_program_can_run_in_virtual_time_from_its_first_moment() -> None:
    async def program() -> tuple[float, float]:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(YEAR_S)
        return began, asyncio.get_running_loop().time()

    began, ended = run_in_virtual_time(program(), start=START)
    assert began == 0
    assert ended == pytest.approx(YEAR_S)


def test_threads_of_such_a_program_are_joined_at_its_end() -> None:
    async def program() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert run_in_virtual_time(program()) == 7


def test_an_event_loop_of_another_kind_is_refused_with_a_reason() -> None:
    async def program() -> None:
        async with virtual_time():
            pass

    with pytest.raises(RuntimeError, match="needs an event loop of asyncio, not uvloop"):
        uvloop.run(program())


async def test_a_servers_clock_is_virtual_while_its_loops_time_is() -> None:
    clock = LoopClock()
    clock.attach()
    before = clock.now()
    async with virtual_time() as virtual:
        await asyncio.sleep(86_400)
        assert clock.now() == virtual.now()
        assert clock.now() - before >= 86_400_000_000


async def test_a_cancelled_wait_for_calm_harms_nobody() -> None:
    async with virtual_time() as clock:
        waiting = asyncio.create_task(clock.settled())
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await clock.advance(5)
        assert clock.elapsed_s == pytest.approx(5)
