"""A choir: its list of singers is for everybody, its treasury for one step."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

SING = """
singers = await get_resource("singers")
return {"singers": await singers.fetchval("SELECT count(*) FROM singers")}
"""

PRY = """
treasury = await get_resource("treasury")
return {"coins": await treasury.fetchval("SELECT sum(coins) FROM treasury")}
"""

PRY_DEEPER = """
async def elsewhere():
    return await ctx.get_resource("treasury")

try:
    await asyncio.create_task(elsewhere())
except Exception as error:
    return {"refused": str(error)}
"""

WRITE_NAME = """
book = await get_resource("book")
await book.execute("INSERT INTO visits VALUES ($1)", guest)
return [row["guest"] for row in await book.fetch("SELECT guest FROM visits")]
"""


def register(gateway: Gateway) -> None:
    concert = (
        WorkflowBuilder("concert")
        .add_async_code("sing", SING, required_resources=["singers"])
        .add_async_code("count", PRY, required_resources=["treasury"])
    )
    thief = WorkflowBuilder("thief").add_async_code("pry", PRY, required_resources=["singers"])
    sly_thief = WorkflowBuilder("sly_thief").add_async_code("pry", PRY_DEEPER, required_resources=["singers"])
    guest_book = WorkflowBuilder("guest_book").add_async_code("write", WRITE_NAME, required_resources=["book"])
    for builder in (concert, thief, sly_thief, guest_book):
        workflow = builder.build()
        gateway.register_workflow(workflow.definition.name, workflow)
