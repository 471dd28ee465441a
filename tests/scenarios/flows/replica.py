"""A bird count: the long query goes to the replica, its summary to the primary."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

COUNT = """
replica = await get_resource("replica")
async with replica.transaction(readonly=True, isolation="repeatable_read") as connection:
    rows = await connection.fetch("SELECT species, sum(birds)::int AS birds FROM sightings GROUP BY species")
return {"birds": {row["species"]: row["birds"] for row in rows}}
"""

SUMMARISE = """
primary = await get_resource("primary")
await primary.executemany(
    "INSERT INTO summaries (species, birds) VALUES ($1, $2) ON CONFLICT (species) DO UPDATE SET birds = $2",
    list(birds.items()),
)
return len(birds)
"""

COUNT_AND_TIDY_UP = """
replica = await get_resource("replica")
await replica.execute("DELETE FROM sightings WHERE birds = 0")
"""


def register(gateway: Gateway) -> None:
    count = (
        WorkflowBuilder("bird_count")
        .add_async_code("count", COUNT, required_resources=["replica"])
        .add_async_code("summarise", SUMMARISE, required_resources=["primary"])
        .add_connection("count", "birds", "summarise", "birds")
        .build()
    )
    tidy = WorkflowBuilder("tidy_bird_count").add_async_code("tidy", COUNT_AND_TIDY_UP).build()
    gateway.register_workflow("bird_count", count)
    gateway.register_workflow("tidy_bird_count", tidy, required_resources=["replica"])
