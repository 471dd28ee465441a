"""A herbarium's scans, from an API that refuses bursts with 429 and says when to come again."""

from __future__ import annotations

from torana_server import Gateway, RetryPolicy, WorkflowBuilder

HEED = """
herbarium = await get_resource("herbarium")
sheets, waits = [], 0
for number in numbers:
    while True:
        async with herbarium.get(f"/sheets/{number}") as response:
            if response.status != 429:
                response.raise_for_status()
                sheets.append(await response.json())
                break
        waits += 1
        await asyncio.sleep(float(response.headers["Retry-After"]))
return {"sheets": sheets, "waits": waits}
"""

HURRY = """
herbarium = await get_resource("herbarium")
sheets = []
for number in numbers:
    async with herbarium.get(f"/sheets/{number}") as response:
        response.raise_for_status()
        sheets.append(await response.json())
return {"sheets": sheets}
"""

ASK_FIRST = """
herbarium = await get_resource("herbarium")
sheets, left = [], 0
for number in numbers:
    if left == 0:
        async with herbarium.post("/allowance") as response:
            left = (await response.json())["sheets"]
    async with herbarium.get(f"/sheets/{number}") as response:
        response.raise_for_status()
        sheets.append(await response.json())
    left -= 1
return {"sheets": sheets}
"""


def register(gateway: Gateway) -> None:
    for name, source in (("heed_the_limit", HEED), ("ask_first", ASK_FIRST), ("hurry", HURRY)):
        workflow = WorkflowBuilder(name).add_async_code("fetch", source, required_resources=["herbarium"]).build()
        gateway.register_workflow(name, workflow)
    later = RetryPolicy(max_attempts=3, initial_interval_s=0.1, jitter=0.0, retry_on=("ClientResponseError",))
    workflow = WorkflowBuilder("come_again").add_async_code("fetch", HURRY, retry=later).build()
    gateway.register_workflow("come_again", workflow, required_resources=["herbarium"])
