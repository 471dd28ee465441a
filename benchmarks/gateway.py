"""The server under test: three trivial steps, durable at every step, on SQLite in a folder given as argument.

`python -m benchmarks.gateway DIR` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from torana_server import Gateway, WorkflowBuilder


async def one(value: int) -> dict[str, int]:
    return {"value": value + 1}


async def two(value: int) -> dict[str, int]:
    return {"value": value * 2}


async def three(value: int) -> dict[str, int]:
    return {"value": value - 3}


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def gateway(data_dir: str) -> Gateway:
    gateway = Gateway(data_dir=data_dir)
    gateway.register_workflow(
        "three_steps",
        WorkflowBuilder("three_steps")
        .add_step("one", one)
        .add_step("two", two)
        .add_step("three", three)
        .add_connection("one", "value", "two", "value")
        .add_connection("two", "value", "three", "value")
        .build(),
    )
    gateway.register_workflow("waits", WorkflowBuilder("waits").add_step("wait", wait_for_ever).build())
    return gateway


async def serve() -> None:
    async with gateway(sys.argv[1]) as served:
        port = await served.serve("127.0.0.1:0")
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve())
