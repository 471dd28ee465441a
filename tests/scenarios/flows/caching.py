"""A bus timetable: read through a cache, changed in the database, forgotten in the cache."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

READ = """
recent = await get_resource("recent")
key = f"{namespace}:timetable:{line}"
cached = await recent.get(key)
if cached is not None:
    return {"times": json.loads(cached), "from": "cache"}

depot = await get_resource("depot")
times = await depot.fetchval("SELECT times FROM timetables WHERE line = $1", line)
if times is None:
    raise LookupError(f"no bus has the number {line}")
ttl_s = 30 if line.startswith("N") else 600  # night buses change often
await recent.set(key, json.dumps(times), ex=ttl_s)
return {"times": times, "from": "database"}
"""

CHANGE = """
depot = await get_resource("depot")
changed = await depot.execute("UPDATE timetables SET times = $2 WHERE line = $1", line, times)
if changed != "UPDATE 1":
    raise LookupError(f"no bus has the number {line}")
"""

FORGET = """
recent = await get_resource("recent")
forgotten = [key async for key in recent.scan_iter(match=f"*:timetable:{line}")]
return {"forgotten": await recent.delete(*forgotten) if forgotten else 0}
"""


def register(gateway: Gateway) -> None:
    read = WorkflowBuilder("timetable").add_async_code("read", READ, inputs={"namespace": "web"})
    spoken = WorkflowBuilder("spoken_timetable").add_async_code("read", READ, inputs={"namespace": "phone"})
    change = (
        WorkflowBuilder("change_timetable")
        .add_async_code("change", CHANGE, required_resources=["depot"])
        .add_async_code("forget", FORGET, required_resources=["recent"])
    )
    for builder in (read, spoken, change):
        workflow = builder.build()
        gateway.register_workflow(workflow.definition.name, workflow, required_resources=["depot", "recent"])
