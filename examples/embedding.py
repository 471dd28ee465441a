"""A server inside a Python program: its own functions as steps, called in the same process and over gRPC.

python examples/embedding.py
"""

from __future__ import annotations

import asyncio

import torana
from torana_server import Gateway, RetryPolicy, StepContext, WorkflowBuilder, WorkflowRequest

READINGS = {"north": [3, 5, 8], "south": [2, 2, 9], "west": [1]}


async def read(station: str, ctx: StepContext) -> dict[str, object]:
    """A step is a plain function: its parameters are the inputs, and tests can call it."""
    await ctx.progress(1.0, f"station {station}")
    return {"values": READINGS[station]}


def average(values: list[float]) -> dict[str, float]:
    """A plain `def` runs in a thread of its own and may block."""
    return {"average": sum(values) / len(values)}


workflow = (
    WorkflowBuilder("station_average", "The average reading of a station")
    .add_step("read", read, retry=RetryPolicy(max_attempts=3))
    .add_step("average", average)
    .add_connection("read", "values", "average", "values")
    .build()
)


async def main(data_dir: str = "torana-data") -> None:
    gateway = Gateway(data_dir=data_dir)
    gateway.register_workflow("station_average", workflow)
    async with gateway:
        response = await gateway.execute_workflow("station_average", WorkflowRequest(parameters={"station": "north"}))
        print("in this process:", response.status, response.result["average"])

        port = await gateway.serve("127.0.0.1:0")
        async with torana.Client(f"127.0.0.1:{port}") as client:
            result = await client.execute_workflow("station_average", {"station": "south"})
            print("over gRPC:", result.status, result.result["average"])


if __name__ == "__main__":
    asyncio.run(main())
