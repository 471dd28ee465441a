"""Function steps: what they are given, where they run, and how they end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from torana_server.core.errors import ConflictError, InvalidRequestError, Reason, StepError
from torana_server.steps import BlockingStepContext, FunctionRegistry, StepContext, StepThreads, get_current_context
from unit.steps.world import Database, World, function

SERVER = Path(__file__).resolve().parents[3] / "server"


async def run(fn: Callable[..., Any], world: World | None = None, **inputs: object) -> object:
    world = world or World()
    world.functions.register("load_users", fn)
    return await world.run(function("load_users"), inputs)


async def test_parameters_are_inputs_by_name() -> None:
    async def load(users: list[int], *, ttl: int = 60) -> dict[str, object]:
        return {"users": users, "ttl": ttl}

    assert await run(load, users=[1], ignored=2) == {"users": [1], "ttl": 60}
    assert await run(load, users=[1], ttl=5) == {"users": [1], "ttl": 5}


async def test_a_missing_required_parameter_is_named() -> None:
    with pytest.raises(StepError, match=r"function 'load_users' needs 'b', 'c'.*supplied: a, x") as caught:
        await run(lambda a, b, c, d=1: None, a=1, x=2)
    assert caught.value.reason is Reason.INPUT_NOT_FOUND
    assert caught.value.metadata == {"input": "b", "supplied": "a, x"}


async def test_a_parameter_ctx_gets_the_step_context_whatever_the_inputs() -> None:
    async def load(ctx: StepContext) -> list[object]:
        return [ctx.step_name, ctx.inputs]

    assert await run(load, ctx=1) == ["load", {"ctx": 1}]


async def test_keyword_arguments_get_all_the_rest() -> None:
    async def load(a: int, ctx: StepContext, **rest: object) -> object:
        return rest

    assert await run(load, None, a=1, b=2, ctx=4, **{"user-id": 3}) == {"b": 2, "user-id": 3}
    assert await run(lambda **rest: rest, ctx=4) == {"ctx": 4}


@pytest.mark.parametrize("kind", ["partial", "object", "method", "coroutine from a def"])
async def test_every_kind_of_callable_that_awaits_is_awaited(kind: str) -> None:
    async def add(a: int, b: int) -> list[object]:
        return [a + b, threading.current_thread() is threading.main_thread()]

    class Adder:
        async def __call__(self, a: int, b: int) -> list[object]:
            return await add(a, b)

    kinds: dict[str, Callable[..., Any]] = {
        "partial": functools.partial(add, b=2),
        "object": Adder(),
        "method": Adder().__call__,
        "coroutine from a def": lambda a, b: add(a, b),
    }
    assert await run(kinds[kind], a=1, b=2) == [3, True]


async def test_a_plain_def_runs_in_a_daemon_thread_with_the_context_variables() -> None:
    var = contextvars.ContextVar("var", default="unset")
    var.set("set")

    def load() -> list[object]:
        thread = threading.current_thread()
        return [thread.name.startswith("torana-step"), thread.daemon, var.get(), get_current_context().get("user")]

    world = World()
    world.functions.register("load_users", load)
    assert await world.run(function("load_users"), context={"user": "ada"}) == [True, True, "set", "ada"]


async def test_a_plain_def_has_a_context_that_blocks() -> None:
    def load(ctx: BlockingStepContext) -> object:
        ctx.progress(0.5, "half", rows=1)
        ctx.emit("row", [1])
        ctx.checkpoint({"at": 1})
        ctx.logger.info("from %s", "thread")
        db = ctx.get_resource("db")
        return [ctx.step_name, ctx.cancelled, ctx.wait(db.fetchval("SELECT n"))]

    world = World()
    world.leases.objects["db"] = Database(7)
    assert await run(load, world) == ["load", False, 7]
    assert world.events.progressed == [(0.5, "half", {"rows": 1})]
    assert world.events.emitted == [("row", [1])]
    assert len(world.events.saved) == 1
    assert world.events.lines == [(20, "from thread")]


@pytest.mark.parametrize("error", [ValueError("bad"), StepError("known")])
async def test_what_a_plain_def_raises_is_raised_as_it_is(error: Exception) -> None:
    def load() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await run(load)
    assert caught.value is error


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_what_a_thread_cannot_mean_fails_the_step(error: type[BaseException]) -> None:
    def load() -> None:
        raise error

    with pytest.raises(StepError, match=f"raised {error.__name__}"):
        await run(load)


class Stubborn:
    """A plain function that ignores its cancellation until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self.ended = threading.Event()
        self.refused: list[Exception] = []

    def __call__(self, ctx: BlockingStepContext) -> str:
        self.entered.set()
        self.release.wait()
        for late in (lambda: ctx.progress(1.0), lambda: ctx.logger.info("late"), lambda: ctx.get_resource("db")):
            try:
                late()
            except StepError as error:
                self.refused.append(error)
        self.ended.set()
        return "late"


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    function = Stubborn()
    yield function
    function.release.set()


async def cancelled(world: World) -> BaseException:
    """How the attempt ends when it is cancelled once its function runs."""
    stubborn: Any = world.functions.get("load_users", "1")
    task = asyncio.create_task(world.run(function("load_users")))
    await asyncio.to_thread(stubborn.call.entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


async def test_a_plain_def_that_ignores_cancellation_is_abandoned_and_refused_from_then_on(stubborn: Stubborn) -> None:
    world = World(grace_s=0.01)
    world.leases.objects["db"] = Database()
    world.functions.register("load_users", stubborn)
    await cancelled(world)
    assert world.threads.stats().abandoned == 1
    assert world.threads.stats().busy == 1
    stubborn.release.set()
    await asyncio.to_thread(stubborn.ended.wait)
    assert ["is over" in str(error) for error in stubborn.refused] == [True, True, True]
    assert world.events.lines == []
    assert world.events.progressed == []
    assert world.leases.out == 0


async def test_an_abandoned_call_counts_against_the_threads_until_it_returns(stubborn: Stubborn) -> None:
    world = World(grace_s=0.01, threads=1)
    world.functions.register("load_users", stubborn)
    world.functions.register("quick", lambda: "done")
    await cancelled(world)
    waiting = asyncio.create_task(world.run(function("quick")))
    await asyncio.sleep(0)
    assert world.threads.stats().waiting == 1
    stubborn.release.set()
    assert await waiting == "done"
    assert world.threads.stats().abandoned == 0


async def test_a_call_cancelled_while_it_waits_for_a_thread_never_starts(stubborn: Stubborn) -> None:
    world = World(threads=1, grace_s=0.01)
    world.leases.objects["db"] = Database()
    started = threading.Event()
    world.functions.register("load_users", stubborn)
    world.functions.register("waiting", started.set)
    first = asyncio.create_task(world.run(function("load_users")))
    await asyncio.to_thread(stubborn.entered.wait)
    second = asyncio.create_task(world.run(function("waiting")))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    stubborn.release.set()
    await first
    world.functions.register("last", lambda: started.is_set())
    assert await world.run(function("last")) is False


async def test_a_plain_def_that_looks_at_cancelled_ends_within_its_grace() -> None:
    entered = threading.Event()
    cleaned = threading.Event()

    def load(ctx: BlockingStepContext) -> None:
        entered.set()
        while not ctx.cancelled:
            pass
        cleaned.set()

    world = World()
    world.functions.register("load_users", load)
    task = asyncio.create_task(world.run(function("load_users")))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
    assert world.threads.stats().abandoned == 0


async def test_no_more_threads_run_than_the_pool_has() -> None:
    threads = StepThreads(3)
    gate, lock = threading.Barrier(3), threading.Lock()
    seen: set[int] = set()

    def call() -> None:
        with lock:
            seen.add(threading.get_ident())
        gate.wait()

    await asyncio.gather(*(threads.run(call, grace_s=1) for _ in range(9)))
    assert len(seen) == 3
    threads.close()
    with pytest.raises(StepError, match="closing"):
        await threads.run(call, grace_s=1)


def test_a_step_that_never_returns_does_not_keep_the_process_from_exiting() -> None:
    program = """
import asyncio, threading
from torana_server.steps.threads import StepThreads

async def main():
    entered = threading.Event()
    def forever():
        entered.set()
        threading.Event().wait()
    task = asyncio.create_task(StepThreads(1).run(forever, grace_s=0.01))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    await asyncio.wait([task])

asyncio.run(main())
print("drained")
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=SERVER, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stdout) == (0, "drained\n"), ran.stderr


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("name", "fn", "version", "message"),
    [
        ("two words", lambda: 1, "1", "cannot name a function"),
        ("f", lambda: 1, "", "version of function 'f'"),
        ("f", 5, "1", "must be callable, not int"),
        ("f", generator, "1", "must return its output, not yield"),
        ("f", eval("lambda a, /: a"), "1", "takes a by position only"),
        ("f", dict.update, "1", "tells no parameters|by position only"),
    ],
)
def test_a_function_that_cannot_be_a_step_is_refused(name: str, fn: Any, version: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        FunctionRegistry().register(name, fn, version)


def test_a_name_and_version_belong_to_one_function() -> None:
    functions = FunctionRegistry()

    def first() -> int:
        return 1

    functions.register("f", first)
    functions.register("f", first)
    with pytest.raises(ConflictError, match="new version"):
        functions.register("f", lambda: 2)
    functions.register("f", lambda: 2, version="2")
    assert functions.requirements() == {"function:f@1", "function:f@2"}
    assert functions.latest["f"].version == "2"


async def test_each_version_is_run_as_asked_for() -> None:
    world = World()
    world.functions.register("f", lambda: "old")
    world.functions.register("f", lambda: "new", version="2")
    assert await world.run(function("f")) == "old"
    assert await world.run(function("f", version="2")) == "new"


async def test_an_unregistered_function_is_a_problem_and_a_requirement() -> None:
    world = World()
    world.functions.register("load", lambda: 1)
    step_type = world.types.find("function")
    (problem,) = step_type.problems({"function": "lod", "version": "3"})
    assert str(problem) == (
        "function: function 'lod' version '3' is not registered on this server; registered: load (version 1)"
    )
    assert step_type.requires({"function": "lod", "version": "3"}) == {"function", "function:lod@3"}
    assert "function:load@1" in world.types.capabilities()
    with pytest.raises(StepError, match="is not registered"):
        await world.run(function("lod"))
