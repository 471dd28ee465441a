"""Does a workflow survive the loss of its server, wherever that happens? Every point is tried."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from torana_server.request import WorkflowRequest
from torana_server.testing.application import quiet
from torana_server.testing.disk import CrashPoint, MemoryDisk
from torana_server.testing.gateway import MemoryGateway
from torana_server.testing.http import FakeHttpApi
from torana_server.testing.recording import Recording
from torana_server.testing.virtual_time import current_clock, virtual_time
from torana_server.workflow import Definition, Workflow

COMMITS_MAX: Final = 500
"""Past it a workflow writes too often to be tried at every point."""
FAILURES_SHOWN_MAX: Final = 3

World = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Survival:
    """What was tried. `undisturbed` is the run without a loss; `recovered` are the others, by the point of the loss."""

    undisturbed: Recording
    recovered: Mapping[str, Recording]


async def assert_survives_restart(
    workflow: Workflow | Definition,
    request: WorkflowRequest | Mapping[str, object] | None = None,
    *,
    resources: Callable[[], World] = dict,
    check: Callable[[Recording, Any], object] | None = None,
    setup: Callable[[MemoryGateway], object] | None = None,
    same_result: bool = True,
) -> Survival:
    """Runs the workflow once undisturbed; then again and again, losing the server at every commit of the journal, just
    before it is durable and just after, and going on with another server on the same journal. Time is virtual.

    After each run the execution must have ended as the undisturbed one did, with the same result (unless
    `same_result` is False), and no step that was recorded as completed may have started again. `check(recording,
    world)` adds what only the test can know, such as that a customer was charged once; it raises AssertionError.

    `resources()` makes the fakes anew for each run: the outside world, which outlives servers. `setup(gateway)`, plain
    or async, prepares each server before it starts: functions, step types, secrets.

    A step that runs at the loss is cancelled, which a killed process does not do: its `finally` blocks run here.

    Raises AssertionError naming the points at which something was not so, and what happened.
    """
    __tracebackhide__ = True
    if not isinstance(request, WorkflowRequest):
        request = WorkflowRequest(parameters=request or {})
    trial = _Trial(workflow, request, resources, check, setup)
    async with _time():
        undisturbed, lost = await trial.run(None)
        assert lost is None, "nothing was to be lost"
        recovered: dict[str, Recording] = {}
        failures: list[_Failure] = []
        for point in _points():
            recording, where = await trial.run(point)
            if where is None:
                break  # the run ended before
            if recording is not None:
                recovered[where] = recording
                failures += _problems(where, recording, undisturbed, same_result)
        failures += trial.failures
    if failures:
        shown = "\n\n".join(f"{where}: {problem}" for where, problem in failures[:FAILURES_SHOWN_MAX])
        points = len({failure.where for failure in failures})
        raise AssertionError(
            f"the workflow does not survive the loss of its server at {points} of {len(recovered)} points\n\n{shown}"
        )
    assert undisturbed is not None, "it ran to its end"
    return Survival(undisturbed, recovered)


class _Failure(NamedTuple):
    where: str
    problem: str


@dataclass(slots=True)
class _Trial:
    workflow: Workflow | Definition
    request: WorkflowRequest
    resources: Callable[[], World]
    check: Callable[[Recording, Any], object] | None
    setup: Callable[[MemoryGateway], object] | None
    failures: list[_Failure] = field(default_factory=list)

    async def run(self, point: CrashPoint | None) -> tuple[Recording | None, str | None]:
        """The recording, and in words where the server was lost; None when it was not. There is no recording when it
        was lost before it had accepted anything."""
        disk = MemoryDisk()
        disk.journal.crash_point = point
        world = self.resources()
        try:
            with quiet():
                recording = await self._on_first_server(disk, world)
            where = None
            if recording is None:
                assert point is not None, "servers are lost where it was said"
                where = _described(point, disk)
                recording = await self._on_second_server(disk, world)
        finally:
            await _close(world)
        if recording is not None:
            await self._check(recording, world, where)
        return recording, where

    async def _on_first_server(self, disk: MemoryDisk, world: World) -> Recording | None:
        gateway, name = await self._server(disk, world)
        running = asyncio.create_task(gateway.record(name, self.request))
        lost = asyncio.create_task(disk.journal.crashed.wait())
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
            if not disk.journal.lost:
                return await running
        finally:
            lost.cancel()
            await gateway.crash()
            running.cancel()
        # What the caller of a lost server hears does not matter.
        await asyncio.gather(running, return_exceptions=True)
        return None

    async def _on_second_server(self, disk: MemoryDisk, world: World) -> Recording | None:
        if not disk.journal.executions:
            return None
        gateway, _ = await self._server(disk, world)
        async with gateway:
            return await gateway.recording(disk.journal.executions[0])

    async def _server(self, disk: MemoryDisk, world: World) -> tuple[MemoryGateway, str]:
        gateway = MemoryGateway(disk=disk, resources=world)
        if self.setup is not None:
            prepared = self.setup(gateway)
            if inspect.isawaitable(prepared):
                await prepared
        name = gateway.register(self.workflow)
        await gateway.start()
        return gateway, name

    async def _check(self, recording: Recording, world: World, where: str | None) -> None:
        if self.check is None:
            return
        try:
            checked = self.check(recording, world)
            if inspect.isawaitable(checked):
                await checked
        except AssertionError as error:
            if where is None:
                raise  # it does not even hold undisturbed
            self.failures.append(_Failure(where, f"{error}\n{recording.table()}"))


def _problems(where: str, recording: Recording, undisturbed: Recording | None, same_result: bool) -> Iterator[_Failure]:
    assert undisturbed is not None, "it ran to its end"
    found = []
    if recording.status != undisturbed.status:
        found.append(f"the execution {recording.status}; undisturbed it {undisturbed.status}")
    elif same_result and recording.result != undisturbed.result:
        found += _differences(recording.result, undisturbed.result)
    found += [f"step {step!r} ran again after it had completed" for step in _run_again(recording)]
    for problem in found:
        yield _Failure(where, f"{problem}\n{recording.table()}")


def _differences(result: Mapping[str, Any], undisturbed: Mapping[str, Any]) -> Iterator[str]:
    """An output may say by right which attempt it is of, so each difference names its way out."""
    for step in {**undisturbed, **result}:
        found, expected = result.get(step), undisturbed.get(step)
        if found != expected:
            yield f"step {step!r} returned {found!r}; undisturbed {expected!r} (same_result=False accepts that)"


def _run_again(recording: Recording) -> list[str]:
    completed: set[str] = set()
    again = []
    for event in recording.events:
        if event.kind == "step_completed":
            completed.add(event.step)
        elif event.kind == "step_started" and event.step in completed:
            again.append(event.step)
    return again


def _points() -> Iterator[CrashPoint]:
    for commit in range(1, COMMITS_MAX + 1):
        yield CrashPoint(commit, "before")
        yield CrashPoint(commit, "after")
    raise AssertionError(f"the workflow writes to the journal more than {COMMITS_MAX} times; try a smaller one")


def _described(point: CrashPoint, disk: MemoryDisk) -> str:
    names = [f"{event.step} {_name(event.kind.name)}".strip() for event in disk.journal.last_commit]
    return f"lost {point.when} commit {point.commit} ({', '.join(names)})"


def _name(kind: str) -> str:
    return kind.lower().removeprefix("execution_").removeprefix("step_")


async def _close(world: World) -> None:
    for resource in world.values():
        if isinstance(resource, FakeHttpApi):
            await resource.close()


@contextlib.asynccontextmanager
async def _time() -> AsyncIterator[None]:
    clock = current_clock()
    if clock is not None and clock.running:
        yield
        return
    async with virtual_time():
        yield
