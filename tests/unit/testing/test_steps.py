from __future__ import annotations

import asyncio
import time
from datetime import date

import pytest
from pydantic import Field

from torana_server import ResourceError, StepContext, StepType
from torana_server.core.errors import StepError
from torana_server.steps import BlockingStepContext, StepConfig
from torana_server.testing import FakeCache, FakeDatabase, FakeHttpApi, LogLine, Progress, run_step, virtual_time


async def load(day: date, *, ctx: StepContext) -> dict[str, object]:
    database = await ctx.get_resource("db")
    rows = await database.fetch("SELECT * FROM sales WHERE day = $1", day)
    await ctx.progress(1.0, "loaded", rows=len(rows))
    await ctx.emit("sales", rows)
    await ctx.checkpoint(len(rows))
    ctx.logger.warning("%d rows", len(rows))
    return {"rows": rows, "by": ctx.context["user"]}


async def test_a_function_runs_as_in_a_server_and_everything_it_did_is_there() -> None:
    database = FakeDatabase().answers("FROM sales", lambda day: [{"day": day}])
    run = await run_step(load, {"day": date(2026, 1, 1)}, resources={"db": database}, context={"user": "ann"})
    rows = [{"day": date(2026, 1, 1)}]
    assert run.output == {"rows": rows, "by": "ann"}
    assert run.progress == [Progress(1.0, "loaded", {"rows": 1})]
    assert (run.emitted("sales"), run.emitted("other"), run.checkpoints) == ([rows], [], [1])
    assert run.logs == [LogLine("step", "warning", "1 rows")]


async def test_a_plain_function_runs_in_a_thread_and_time_waits_for_it() -> None:
    def average(values: list[float], ctx: BlockingStepContext) -> float:
        time.sleep(0.05)
        ctx.progress(0.5)
        return sum(values) / len(values)

    async with virtual_time() as clock:
        run = await run_step(average, {"values": [1, 2, 3]}, timeout_s=60)
        assert (run.output, clock.elapsed_s) == (2.0, 0.0)


async def test_source_runs_with_the_names_it_has_in_a_server() -> None:
    run = await run_step(
        "print('hi', shout(text)); await emit('t', step_name); result = {'n': len(text)}",
        {"text": "abc"},
        functions={"shout": lambda text: text.upper()},
    )
    assert (run.output, run.logs, run.emitted("t")) == ({"n": 3}, [LogLine("step", "info", "hi ABC")], ["step"])


class RepeatConfig(StepConfig):
    times: int = Field(description="How often")


class Repeat(StepType[RepeatConfig]):
    name = "repeat"
    description = "Repeats a text"
    Config = RepeatConfig

    async def run(self, ctx: StepContext, config: RepeatConfig, inputs: dict[str, object]) -> object:
        return str(inputs["text"]) * config.times


async def test_a_step_type_runs_with_its_config() -> None:
    assert (await run_step(Repeat(), {"text": "ab"}, config={"times": 2})).output == "abab"


async def test_config_that_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match="times: is required"):
        await run_step(Repeat(), {"text": "ab"})


async def test_source_that_does_not_compile_is_told_with_its_place() -> None:
    with pytest.raises(ValueError, match="line 1, column"):
        await run_step("return (")


async def test_a_later_attempt_finds_its_checkpoint() -> None:
    async def resume(ctx: StepContext) -> object:
        return [ctx.attempt, ctx.restored]

    assert (await run_step(resume, attempt=2, restored={"at": 5})).output == [2, {"at": 5}]


async def test_an_error_is_raised_as_it_is_and_says_what_the_step_had_done() -> None:
    async def breaks(ctx: StepContext) -> None:
        await ctx.emit("before", 1)
        raise KeyError("x")

    with pytest.raises(KeyError) as caught:
        await run_step(breaks)
    assert "events=[('before', 1)]" in caught.value.__notes__[0]


async def test_a_timeout_cancels_the_step() -> None:
    async with virtual_time() as clock:
        with pytest.raises(TimeoutError):
            await run_step("await asyncio.sleep(301)", timeout_s=300)
        assert clock.elapsed_s == pytest.approx(300)


async def test_an_output_that_cannot_be_stored_fails_here_too() -> None:
    with pytest.raises(StepError, match="output"):
        await run_step(lambda: object())


async def test_inputs_are_copies_as_between_steps() -> None:
    given = {"rows": [1]}
    await run_step("rows.append(2)", given)
    assert given == {"rows": [1]}


async def test_a_resource_the_test_does_not_give_is_told_with_those_it_gives() -> None:
    async with FakeCache() as cache:
        with pytest.raises(ResourceError, match="no resource 'db'; it gives: cache"):
            await run_step("await get_resource('db')", resources={"cache": cache})


async def test_a_fake_api_is_its_client_in_the_step() -> None:
    api = FakeHttpApi().answers("GET", "/price", {"price": 3})
    source = (
        "api = await get_resource('api')\nasync with api.get('/price') as response:\n    return await response.json()"
    )
    assert (await run_step(source, resources={"api": api})).output == {"price": 3}


async def test_steps_run_side_by_side() -> None:
    runs = await asyncio.gather(*(run_step("return n", {"n": n}) for n in range(5)))
    assert [run.output for run in runs] == [0, 1, 2, 3, 4]
