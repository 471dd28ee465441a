"""A census: forms are written and looked up in bulk, batch by batch; a checkpoint remembers what is written."""

from __future__ import annotations

from torana_server import Gateway, RetryPolicy, WorkflowBuilder

STORE = """
archive = await get_resource("archive")
start = ctx.restored or 0
for first in range(start, len(forms), batch_size):
    batch = forms[first:first + batch_size]
    async with archive.transaction() as connection:
        await connection.executemany(
            "INSERT INTO forms (number, parish, souls) VALUES ($1, $2, $3)",
            [(form["number"], form["parish"], form["souls"]) for form in batch],
        )
    done = first + len(batch)
    await checkpoint(done)
    await progress(done / len(forms), f"{done} of {len(forms)} forms", parish=batch[-1]["parish"])
return {"stored": len(forms) - start, "numbers": [form["number"] for form in forms]}
"""

LOOK_UP = """
archive = await get_resource("archive")
rows = await archive.fetch(
    "SELECT parish, sum(souls)::int AS souls FROM forms WHERE number = ANY($1) GROUP BY parish ORDER BY parish", numbers
)
return {row["parish"]: row["souls"] for row in rows}
"""


def register(gateway: Gateway) -> None:
    once_more = RetryPolicy(max_attempts=2, initial_interval_s=0.01)
    for name, retry in (("census", None), ("patient_census", once_more)):
        workflow = (
            WorkflowBuilder(name)
            .add_async_code("store", STORE, required_resources=["archive"], retry=retry)
            .add_async_code("look_up", LOOK_UP, required_resources=["archive"])
            .add_connection("store", "numbers", "look_up", "numbers")
            .build()
        )
        gateway.register_workflow(name, workflow)
