"""A parking garage as a sequence of events; the number of cars inside is a projection, written with them."""

from __future__ import annotations

from typing import Any

from torana_server import Gateway, StepContext, WorkflowBuilder

APPEND = """
class VersionConflictError(Exception):
    pass

change = {"entered": 1, "left": -1}.get(kind)
if change is None:
    raise ValueError(f"a car has entered or left, not {kind!r}")

ledger = await get_resource("ledger")
version = expected_version + 1
try:
    async with ledger.transaction() as connection:
        await connection.execute(
            "INSERT INTO events (garage, version, kind, plate) VALUES ($1, $2, $3, $4)", garage, version, kind, plate
        )
        await connection.execute("INSERT INTO occupancy VALUES ($1, 0, 0) ON CONFLICT (garage) DO NOTHING", garage)
        inside = await connection.fetchval(
            '''
            UPDATE occupancy SET version = $2, inside = inside + $3
            WHERE garage = $1 AND version = $2 - 1
            RETURNING inside
            ''',
            garage, version, change,
        )
        if inside is None:
            raise VersionConflictError(f"{garage} has not reached version {expected_version}")
except asyncpg.UniqueViolationError:
    raise VersionConflictError(f"{garage} is past version {expected_version}: read it again") from None
return {"version": version, "inside": inside}
"""


async def replay(garage: str, ctx: StepContext) -> dict[str, Any]:
    """What the events alone say, in their order."""
    ledger = await ctx.get_resource("ledger")
    inside: list[str] = []
    version = 0
    async with ledger.transaction() as connection:
        query = "SELECT version, kind, plate FROM events WHERE garage = $1 ORDER BY version"
        async for row in connection.cursor(query, garage):
            version = row["version"]
            if row["kind"] == "entered":
                inside.append(row["plate"])
            else:
                inside.remove(row["plate"])
    return {"version": version, "inside": len(inside), "plates": inside}


def register(gateway: Gateway) -> None:
    park = WorkflowBuilder("park").add_async_code("append", APPEND, required_resources=["ledger"]).build()
    audit = WorkflowBuilder("audit_garage").add_step("replay", replay, required_resources=["ledger"]).build()
    gateway.register_workflow("park", park)
    gateway.register_workflow("audit_garage", audit)
