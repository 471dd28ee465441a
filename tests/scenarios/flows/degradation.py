"""A store of spare parts whose database may be down: one part (degradation.yaml), or a list with what can be said."""

from __future__ import annotations

from scenarios.flows.files import definition
from torana_server import Gateway, WorkflowBuilder

LIST = """
from torana_server import ResourceError

seen = await get_resource("seen")

async def from_store(part):
    store = await get_resource("store")
    row = await store.fetchrow("SELECT part, stock FROM parts WHERE part = $1", part)
    return None if row is None else {**row, "fresh": True}

async def from_memory(part):
    last = await seen.get(f"part:{part}")
    return None if last is None else {**json.loads(last), "fresh": False}

found, unknown, trouble = [], [], set()
for part in parts:
    try:
        known = await from_store(part)
    except (ResourceError, asyncpg.PostgresError) as error:
        trouble.add(type(error).__name__)
        known = await from_memory(part)
    if known is None:
        unknown.append(part)
    else:
        found.append(known)
return {"found": found, "unknown": unknown, "trouble": sorted(trouble)}
"""


def register(gateway: Gateway) -> None:
    gateway.register_workflow("spare_part", definition("degradation"))
    parts = WorkflowBuilder("spare_parts").add_async_code("list", LIST, required_resources=["store", "seen"]).build()
    gateway.register_workflow("spare_parts", parts)
