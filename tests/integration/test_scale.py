"""Ten thousand executions: all kept, all readable, and no memory spent on what is over."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

import torana
from servers import running_server

EXECUTIONS = 10_000
CALLERS = 64
GROWTH_MIB_MAX = 24.0
"""What a server may grow by for 10,000 executions that ended: caches fill, allocators keep pages. Were 2.5 KiB kept
of each, it would be more."""


async def run(client: torana.Client, numbers: range) -> dict[int, str]:
    """Starts as many as there are numbers, as fast as `CALLERS` go, and waits for their ends; number to execution."""
    remaining = iter(numbers)
    executions: dict[int, str] = {}

    async def caller() -> None:
        for number in remaining:
            executions[number] = (await client.start_workflow("tiny", {"number": number})).id

    async with client.watch_executions(cursor="0", kinds=["completed"]) as feed:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        unfinished = set(executions.values())
        while unfinished:
            unfinished.discard((await anext(feed)).execution)
    return executions


async def assert_readable(client: torana.Client, execution: str, number: int) -> None:
    """Watchable from the first event, and its result as it was."""
    events = [event async for event in client.watch(execution)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events] == ["accepted", "started", "step_started", "step_completed", "completed"]
    assert (await client.get_execution(execution)).result == {"increment": number + 1}


@pytest.mark.slow
async def test_10_000_executions_are_kept_over_a_restart_and_cost_no_memory(tmp_path: Path) -> None:
    with running_server("served.tiny", tmp_path / "data") as server:
        async with torana.Client(server.address) as client:
            warm = await run(client, range(500))
            fresh_mib = server.rss_mib()
            executions = await run(client, range(500, EXECUTIONS + 500))
            grown_mib = server.rss_mib() - fresh_mib
        assert grown_mib < GROWTH_MIB_MAX, f"10,000 executions left {grown_mib:.1f} MiB behind"

        server.restart()
        async with torana.Client(server.address) as client:
            again = await run(client, range(500))
            restarted_mib = server.rss_mib()
            listed = [execution async for execution in client.list_executions("state = COMPLETED", page_size=1_000)]
            for number in itertools.islice(executions, 0, None, EXECUTIONS // 50):
                await assert_readable(client, executions[number], number)
            accepted = {*warm.values(), *executions.values(), *again.values()}
            assert {execution.id for execution in listed} == accepted
            assert len(listed) == EXECUTIONS + 1_000
            assert [e.id for e in listed] == sorted((e.id for e in listed), reverse=True), "newest first"
        assert restarted_mib - fresh_mib < GROWTH_MIB_MAX, "memory after a restart grows with history"
