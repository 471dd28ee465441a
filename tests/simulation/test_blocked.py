"""An unfinished execution whose function or step type this server has not, or not yet."""

from __future__ import annotations

import asyncio

from torana_server import StepConfig, StepContext, StepType, Workflow, WorkflowBuilder, WorkflowRequest
from torana_server.testing import MemoryDisk, MemoryGateway, VirtualClock, virtual_time


async def hang_once(ctx: StepContext) -> int:
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ctx.attempt


def workflow() -> Workflow:
    return WorkflowBuilder("hang").add_step("hang", hang_once, function_name="hang_once").build()


async def left_unfinished(workflow: Workflow, *step_types: StepType[StepConfig]) -> tuple[MemoryDisk, str]:
    first = MemoryGateway()
    await first.start()
    for step_type in step_types:
        first.register_step_type(step_type)
    first.register_workflow("hang", workflow)
    execution = await first.start_workflow("hang", WorkflowRequest())
    await asyncio.sleep(1)
    await first.crash()
    return first.disk, execution


async def is_blocked(gateway: MemoryGateway, execution: str, clock: VirtualClock) -> bool:
    await clock.advance(6)
    return (await gateway.get_execution(execution)).state == "blocked"


async def test_what_is_blocked_goes_on_as_soon_as_its_workflow_brings_the_function() -> None:
    async with virtual_time() as clock:
        disk, execution = await left_unfinished(workflow())
        async with MemoryGateway(disk=disk) as second:
            assert await is_blocked(second, execution, clock)
            registered_at = clock.datetime
            second.register_workflow("hang", workflow())
            assert (await second.wait(execution)).result == {"hang": 2}
            assert clock.datetime == registered_at


async def test_what_is_blocked_goes_on_as_soon_as_its_function_is_registered() -> None:
    async with virtual_time() as clock:
        disk, execution = await left_unfinished(workflow())
        async with MemoryGateway(disk=disk) as second:
            assert await is_blocked(second, execution, clock)
            registered_at = clock.datetime
            second.register_function("hang_once", hang_once)
            assert (await second.wait(execution)).result == {"hang": 2}
            assert clock.datetime == registered_at


class HangOnce(StepType[StepConfig]):
    name = "hang_once"
    description = "Hangs in its first attempt."
    Config = StepConfig

    async def run(self, ctx: StepContext, config: StepConfig, inputs: dict[str, object]) -> object:
        return await hang_once(ctx)


async def test_what_is_blocked_goes_on_as_soon_as_its_step_type_is_registered() -> None:
    hanging = WorkflowBuilder("hang").add_node("hang_once", "hang").build()
    async with virtual_time() as clock:
        disk, execution = await left_unfinished(hanging, HangOnce())
        async with MemoryGateway(disk=disk) as second:
            assert await is_blocked(second, execution, clock)
            registered_at = clock.datetime
            second.register_step_type(HangOnce())
            assert (await second.wait(execution)).result == {"hang": 2}
            assert clock.datetime == registered_at
