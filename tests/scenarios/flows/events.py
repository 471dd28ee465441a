"""A museum's turnstiles: batches of scans, each looked up in the database and in the cache."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

ADMIT = """
members = await get_resource("members")
wishes = await get_resource("wishes")

badges = [scan["badge"] for scan in scans]
rows = await members.fetch("SELECT badge, name, patron FROM members WHERE badge = ANY($1)", badges)
known = {row["badge"]: row for row in rows}

admitted, turned_away = [], []
for number, scan in enumerate(scans, start=1):
    member = known.get(scan["badge"])
    if member is None:
        turned_away.append(scan["badge"])
        continue
    language = await wishes.hget(f"wish:{scan['badge']}", "language") or "en"
    visit = {"name": member["name"], "door": "garden" if member["patron"] else "main", "language": language}
    await wishes.set(f"visit:{scan['id']}", json.dumps(visit), ex=7200 if member["patron"] else 3600)
    await emit("admitted", visit)
    await progress(number / len(scans), member["name"])
    admitted.append(visit)
return {"admitted": admitted, "turned_away": turned_away}
"""


def register(gateway: Gateway) -> None:
    workflow = (
        WorkflowBuilder("turnstile")
        .add_async_code("admit", ADMIT, required_resources=["members", "wishes"])
        .add_node("compose", "note", {"value": "turned away: {{admit.turned_away}}"})
        .build()
    )
    gateway.register_workflow("turnstile", workflow)
