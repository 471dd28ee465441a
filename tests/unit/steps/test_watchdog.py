"""The watchdog names what holds the event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from torana_server.steps import LoopStats, LoopWatchdog
from torana_server.steps.watchdog import Held, what_holds
from unit.steps.world import World, code, function

THRESHOLD_S = 0.03


class Warnings(logging.Handler):
    """Remembers warnings by the step they name, since a busy machine holds the loop at times as well."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, step: str) -> list[Any]:
        return [record for record in self.records if record.step == step]


@pytest.fixture
def warned() -> Iterator[Warnings]:
    handler = Warnings()
    logging.getLogger("torana.steps").addHandler(handler)
    yield handler
    logging.getLogger("torana.steps").removeHandler(handler)


@pytest.fixture
async def watchdog() -> AsyncIterator[LoopWatchdog]:
    watchdog = LoopWatchdog(threshold_s=THRESHOLD_S, interval_s=0.005)
    watchdog.start()
    yield watchdog
    watchdog.stop()


def hold_until(condition: Callable[[], object]) -> None:
    """Holds the event loop, as a step that never yields does."""
    while not condition():
        pass


async def timer(delay_s: float) -> None:
    """Returns after the loop has gone round, as the watchdog's own timer does."""
    rung = asyncio.Event()
    asyncio.get_running_loop().call_later(delay_s, rung.set)
    await rung.wait()


async def test_a_source_step_that_never_yields_is_named_while_it_runs(watchdog: LoopWatchdog, warned: Warnings) -> None:
    world = World()
    world.functions.register("warned", warned.of)
    await world.run(code("while not warned('user_etl.spin'):\n    n = 1", name="spin"))
    (record,) = warned.of("user_etl.spin")
    assert "ms by step user_etl.spin, at <step user_etl.spin>:" in record.getMessage()
    assert record.execution == "execution-1"
    stats = watchdog.stats()
    assert stats.blocked_by["user_etl.spin"] == 1
    assert stats.blocked_count == sum(stats.blocked_by.values())
    assert stats.lag_ms_max > THRESHOLD_S * 1000


async def test_a_function_step_that_never_yields_is_named_with_its_line(
    watchdog: LoopWatchdog, warned: Warnings
) -> None:
    async def spin() -> None:
        hold_until(lambda: warned.of("user_etl.load"))

    world = World()
    world.functions.register("spin", spin)
    await world.run(function("spin"))
    message = warned.of("user_etl.load")[0].getMessage()
    assert "by step user_etl.load, at test_watchdog.py:" in message
    assert message.endswith('in spin: hold_until(lambda: warned.of("user_etl.load"))')


async def test_a_task_that_a_source_step_started_is_named(watchdog: LoopWatchdog, warned: Warnings) -> None:
    world = World()
    world.functions.register("warned", warned.of)
    spin = "async def spin():\n    while not warned('user_etl.tasks'):\n        pass\nawait asyncio.gather(spin())"
    await world.run(code(spin, name="tasks"))
    assert "at <step user_etl.tasks>:" in warned.of("user_etl.tasks")[0].getMessage()


async def test_what_holds_the_loop_outside_steps_is_told_apart(watchdog: LoopWatchdog, warned: Warnings) -> None:
    hold_until(lambda: warned.of("unknown"))
    assert "by something outside any step" in warned.of("unknown")[0].getMessage()


async def test_a_step_is_counted_each_time_but_warned_about_once(watchdog: LoopWatchdog, warned: Warnings) -> None:
    for _ in range(3):
        before = watchdog.stats().blocked_count
        hold_until(lambda before=before: watchdog.stats().blocked_count > before)  # type: ignore[misc]  # bound early
        await timer(0.02)
    assert watchdog.stats().blocked_by["unknown"] >= 3
    assert len(warned.of("unknown")) == 1


async def test_a_loop_that_is_free_is_not_reported() -> None:
    watchdog = LoopWatchdog(threshold_s=60.0, interval_s=0.001)
    watchdog.start()
    await timer(0.02)
    watchdog.stop()
    assert watchdog.stats() == LoopStats(watchdog.stats().lag_ms_max, 0, {})


async def test_the_watchdog_runs_once_and_can_run_again() -> None:
    watchdog = LoopWatchdog()
    watchdog.stop()
    watchdog.start()
    with pytest.raises(RuntimeError, match="runs already"):
        watchdog.start()
    watchdog.stop()
    watchdog.start()
    watchdog.stop()


def test_without_a_stack_nothing_is_named() -> None:
    assert what_holds(None, None) == Held("unknown", "", "")
    assert what_holds(sys._getframe(), None).step == "unknown"
