"""A studio draws thumbnails: many at once, never more than it has places for."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

DRAW = """
studio = await get_resource("studio")
places = asyncio.Semaphore(at_once)

async def draw(picture):
    async with places, studio.post("/thumbnails", json={"picture": picture}) as response:
        response.raise_for_status()
        return await response.json()

drawn = await asyncio.gather(*map(draw, pictures), return_exceptions=True)
return {
    "thumbnails": [one for one in drawn if not isinstance(one, Exception)],
    "refused": [picture for picture, one in zip(pictures, drawn) if isinstance(one, Exception)],
}
"""

HANG_UP = """
gallery = await get_resource("gallery")

async def hang_up(thumbnail):
    async with gallery.acquire() as connection:
        await connection.execute("INSERT INTO walls (picture) VALUES ($1)", thumbnail["picture"])
        return gallery.size

sizes = await asyncio.gather(*map(hang_up, thumbnails))
return {"hung": len(sizes), "connections": max(sizes)}
"""

HOARD = """
gallery = await get_resource("gallery")
async with gallery.acquire(), gallery.acquire():
    await gallery.fetchval("SELECT 1")
"""


def register(gateway: Gateway) -> None:
    exhibition = (
        WorkflowBuilder("exhibition")
        .add_async_code("draw", DRAW, required_resources=["studio"])
        .add_async_code("hang_up", HANG_UP, required_resources=["gallery"])
        .add_connection("draw", "thumbnails", "hang_up", "thumbnails")
        .build()
    )
    hoard = WorkflowBuilder("hoard").add_async_code("hoard", HOARD, required_resources=["gallery"]).build()
    gateway.register_workflow("exhibition", exhibition)
    gateway.register_workflow("hoard", hoard)
