"""What attempts are given and return, as events."""

from __future__ import annotations

import json
from typing import Any

from simulation.virtual_time import simulated
from simulation.world import SECRET, Routed, World, check_history, flow, sleeps, work
from torana_server.core.lines import EXCERPT_CHARS_MAX
from torana_server.core.values import decode, encode
from torana_server.execution.events import Completed, Event, LogLevel, StepLog
from torana_server.execution.state import fold
from torana_server.steps import StepCall, StepEvents


def recorded(events: list[Event]) -> list[tuple[str, int, Any]]:
    return [
        (event.step, event.attempt, decode(event.body.data))
        for event in events
        if isinstance(event.body, StepLog) and event.body.data is not None
    ]


async def debugged(world: World, definition: Any, **fields: Any) -> list[Event]:
    world.workflows.register(definition, metadata={"debug": True})
    return await world.watched(await world.start("flow", **fields))


@simulated
async def test_every_attempt_records_what_it_was_given_and_what_it_returned() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(1, {"rows": 2})}
        events = await debugged(world, flow("a", "b", connections=["a>b"]), parameters=encode({"day": "monday"}))
        assert recorded(events) == [
            ("a", 1, {"inputs": {"day": "monday"}}),
            ("a", 1, {"output": {"rows": 2}}),
            ("b", 1, {"inputs": {"day": "monday", "rows": 2}}),
            ("b", 1, {"output": {"step": "b"}}),
        ]
        assert all(e.body.level is LogLevel.DEBUG for e in events if isinstance(e.body, StepLog))
        check_history(events)
        assert fold(events).outputs() == events[-1].body.outputs  # type: ignore[union-attr]


@simulated
async def test_config_that_templates_filled_in_and_routes_are_recorded() -> None:
    async with World().open() as world:
        world.runner.scripts = {"a": sleeps(0, Routed({"x": 1}, "high"))}
        step = work("a", config={"url": "http://h/${parameters.id}"})
        events = await debugged(world, flow(step), parameters=encode({"id": 7}))
        (_, _, given), (_, _, returned) = recorded(events)
        assert given == {"inputs": {"id": 7}, "config": {"url": "http://h/7"}}
        assert returned == {"output": {"x": 1}, "route": "high"}


@simulated
async def test_what_is_recorded_is_redacted_and_bounded() -> None:
    async with World().open() as world:
        output = {"token": f"Bearer {SECRET}", SECRET: 1, "rows": ["x" * 100] * 2_000}
        world.runner.scripts = {"a": sleeps(0, output)}
        events = await debugged(world, flow("a"), parameters=encode({"deep": [{"password": SECRET}]}))
        (_, _, given), (_, _, returned) = recorded(events)
        assert SECRET not in json.dumps([given, returned])
        assert returned["output"]["token"] == "Bearer ***"
        assert len(json.dumps(returned)) < 1.5 * EXCERPT_CHARS_MAX
        assert "more" in returned["output"]["rows"][-1]


@simulated
async def test_debug_mode_is_switched_for_the_attempts_that_start_from_then_on() -> None:
    async with World().open() as world:

        async def switch(call: StepCall, events: StepEvents) -> None:
            metadata = world.workflows.get("flow").metadata
            metadata["debug"] = call.step.name == "a"

        world.runner.scripts = {"a": switch, "b": switch}
        events = await world.run(flow("a", "b", "c", connections=["a>b", "b>c"]))
        assert [step for step, _, _ in recorded(events)] == ["b", "b"]


@simulated
async def test_without_debug_mode_nothing_is_recorded() -> None:
    async with World().open() as world:
        events = await world.run(flow("a"))
        assert recorded(events) == []


@simulated
async def test_debug_mode_fails_no_step_that_has_no_events_left(monkeypatch: Any) -> None:
    monkeypatch.setattr("torana_server.execution.inbox.EVENTS_PER_EXECUTION_MAX", 1)
    async with World().open() as world:
        events = await debugged(world, flow("a"))
        assert isinstance(events[-1].body, Completed)
        lines = [event.body for event in events if isinstance(event.body, StepLog)]
        assert [line.dropped for line in lines] == [0, 1]


@simulated
async def test_what_a_step_logs_beside_a_line_is_with_the_line() -> None:
    async def script(call: StepCall, events: StepEvents) -> None:
        events.log(20, "loaded", {"rows": 3, "by": {"token": SECRET}, "at": float("nan"), "odd": "\ud800"})

    async with World().open() as world:
        world.runner.scripts = {"a": script}
        events = await world.run(flow("a"))
        assert recorded(events) == [("a", 1, {"rows": 3, "by": {"token": "***"}, "at": "nan", "odd": "\\ud800"})]
