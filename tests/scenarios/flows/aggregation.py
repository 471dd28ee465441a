"""An airport's morning board: four endpoints at once, whoever does not answer is left out.

The connections have no names, so each step has what the steps before it returned.
"""

from __future__ import annotations

from typing import Any

from torana_server import Gateway, WorkflowBuilder

ASK = """
tower = await get_resource("tower")

async def ask(topic):
    try:
        async with tower.get(f"/{topic}", headers={"X-Asked-By": context.get("user", "nobody")}) as response:
            response.raise_for_status()
            return await response.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        logger.warning("%s is missing: %s", topic, type(error).__name__)
        return None

topics = ["weather", "gates", "delays", "staff"]
answers = dict(zip(topics, await asyncio.gather(*map(ask, topics))))
if not any(answers.values()):
    raise ConnectionError("no endpoint of the tower answered")
return {**answers, "missing": [topic for topic in topics if answers[topic] is None]}
"""

PUBLISH = """
screens = await get_resource("screens")
open_gates = [gate["name"] for gate in gates or [] if gate["open"]]
board = {"advice": advice, "gates": open_gates, "without": missing}
await screens.set("board", json.dumps(board), ex=60)
return board
"""


async def advise(weather: dict[str, Any] | None, delays: list[int] | None) -> dict[str, str]:
    if weather is None or delays is None:
        return {"advice": "ask at the desk"}
    late = max(delays, default=0)
    return {"advice": "fog: allow an hour" if weather["fog"] else f"up to {late} minutes late"}


def register(gateway: Gateway) -> None:
    workflow = (
        WorkflowBuilder("morning_board")
        .add_async_code("ask", ASK, required_resources=["tower"])
        .add_step("advise", advise)
        .add_async_code("publish", PUBLISH, required_resources=["screens"])
        .add_connection("ask", "advise")
        .add_connection("advise", "publish")
        .build()
    )
    gateway.register_workflow("morning_board", workflow)
