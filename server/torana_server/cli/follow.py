"""One stream of events, shown until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import torana
from torana_server.cli.displays import Display
from torana_server.cli.exits import Exit, exit_of


@dataclass(slots=True)
class Followed:
    """Where the reading of an execution stands: what an interrupted command can still say."""

    execution_id: str = ""
    last_sequence: int = 0


async def follow(stream: torana.ExecutionStream, display: Display, followed: Followed) -> Exit:
    """The code for the end of the execution."""
    async with stream:
        with display:
            async for event in stream:
                display.show(event)
                followed.execution_id, followed.last_sequence = stream.execution_id, stream.last_sequence
                await asyncio.sleep(0)  # between the events of a batch Ctrl-C gets its turn
        result = await stream.result()
    display.end(result)
    return exit_of(result.status)


def run_interruptibly(work: Coroutine[Any, Any, Exit]) -> Exit | None:
    """None when Ctrl-C came first; `work` was then cancelled and has cleaned up."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        return None
