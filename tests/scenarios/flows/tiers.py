"""A dictionary in three tiers: the process's memory, Valkey, PostgreSQL."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

LOOK_UP = """
if not hasattr(workflow_context, "words"):
    workflow_context.words = {}
words = workflow_context.words
if word in words:
    return {"meaning": words[word], "from": "memory"}

near = await get_resource("near")
meaning = await near.get(f"word:{word}")
source = "valkey"
if meaning is None:
    far = await get_resource("far")
    meaning = await far.fetchval("SELECT meaning FROM words WHERE word = $1", word)
    source = "postgresql"
    if meaning is None:
        raise LookupError(f"nobody has explained {word!r}")
    await near.set(f"word:{word}", meaning, ex=3600)
words[word] = meaning
return {"meaning": meaning, "from": source}
"""


def register(gateway: Gateway) -> None:
    for name in ("explain", "crossword"):
        workflow = WorkflowBuilder(name).add_async_code("look_up", LOOK_UP, required_resources=["near", "far"]).build()
        gateway.register_workflow(name, workflow)
