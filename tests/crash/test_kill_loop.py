"""32 clients work while the server is killed over and over: nothing accepted is lost, and everything completes."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import torana
from served.effects import Act, recorded
from servers import ServerProcess

HASTY = torana.ReconnectPolicy(initial_s=0.02, max_s=0.2)
ASYNC_CLIENTS, BLOCKING_CLIENTS = 24, 8


@dataclass
class Load:
    """What the clients were told. They work until `over`; `finished` is set whenever one gets a result."""

    effects: str
    over: threading.Event = field(default_factory=threading.Event)
    results: dict[str, torana.ExecutionResult] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    finished: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def keys(self, client: int) -> Iterator[str]:
        for number in itertools.count():
            if self.over.is_set():
                return
            yield f"{client}-{number}"

    async def work(self, address: str, number: int) -> None:
        async with torana.Client(address, reconnect=HASTY) as client:
            for key in self.keys(number):
                async with client.execute("tiny", {"effects": self.effects}, idempotency_key=key) as stream:
                    self.accepted.add((await anext(stream)).execution)
                    self.results[key] = await stream.result()
                self.finished.release()

    def work_blocking(self, address: str, number: int, loop: asyncio.AbstractEventLoop) -> None:
        with torana.BlockingClient(address, reconnect=HASTY) as client:
            for key in self.keys(number):
                with client.execute("tiny", {"effects": self.effects}, idempotency_key=key) as stream:
                    self.accepted.add(next(stream).execution)
                    self.results[key] = stream.result()
                loop.call_soon_threadsafe(self.finished.release)


@pytest.mark.slow
@pytest.mark.parametrize(("store", "kills"), [("sqlite", 10), ("postgresql", 4)], indirect=["store"])
async def test_32_clients_lose_nothing_to_a_server_that_is_killed_again_and_again(
    server: ServerProcess, kills: int, effects: Path, random_numbers: random.Random
) -> None:
    load = Load(str(effects))
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(BLOCKING_CLIENTS) as threads:
        clients: list[asyncio.Future[None]] = [
            asyncio.create_task(load.work(server.address, number)) for number in range(ASYNC_CLIENTS)
        ]
        clients += [
            loop.run_in_executor(threads, load.work_blocking, server.address, ASYNC_CLIENTS + number, loop)
            for number in range(BLOCKING_CLIENTS)
        ]
        try:
            for _ in range(kills):
                for _ in range(random_numbers.randrange(5, 300)):
                    await load.finished.acquire()
                await asyncio.to_thread(server.restart)
        finally:
            load.over.set()
        await asyncio.gather(*clients)
    await assert_all_completed(server, load)
    assert_completions_stand(await attempts_that_completed(server, load), recorded(effects))


async def assert_all_completed(server: ServerProcess, load: Load) -> None:
    assert {result.status for result in load.results.values()} == {"completed"}
    async with torana.Client(server.address) as client:
        listed = {execution.id: execution async for execution in client.list_executions(page_size=1_000)}
    assert load.accepted <= listed.keys(), "an execution that was accepted is gone"
    assert {key: result.execution_id for key, result in load.results.items()} == {
        execution.idempotency_key: execution.id for execution in listed.values()
    }, "a key started more than one execution, or none"
    assert {execution.state for execution in listed.values()} == {"completed"}


async def attempts_that_completed(server: ServerProcess, load: Load) -> dict[tuple[str, str], int]:
    """By execution and step, of the executions that a kill interrupted."""
    attempts = {}
    async with torana.Client(server.address) as client, client.watch_executions(cursor="0") as feed:
        ended = 0
        while ended < len(load.results):
            event = await anext(feed)
            ended += event.is_terminal
            if event.kind == "step_completed":
                assert (event.execution, event.step) not in attempts, "a step completed twice"
                attempts[event.execution, event.step] = event.attempt
    return attempts


def assert_completions_stand(completed: dict[tuple[str, str], int], acts: list[Act]) -> None:
    """What was recorded as completed never ran again, and every attempt of a step had the same idempotency key."""
    by_step: dict[tuple[str, str], list[Act]] = defaultdict(list)
    for act in acts:
        by_step[act.execution, act.step].append(act)
    assert by_step.keys() == completed.keys()
    for step, of_step in by_step.items():
        assert [act.attempt for act in of_step] == sorted({act.attempt for act in of_step})
        assert of_step[-1].attempt == completed[step]
        assert len({act.key for act in of_step}) == 1
