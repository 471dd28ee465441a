"""A bakery's oven that is measured: figures go to a list in Valkey whatever happens, lines become events."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

BAKE = """
meters = await get_resource("meters")
figures = {"loaves": len(loaves), "baked": 0, "ended": "cut short"}
started = time.perf_counter()
try:
    for loaf in loaves:
        logger.debug("the dough of %s weighs %s g", loaf["name"], loaf.get("grams"))
        if loaf["minutes"] <= 0:
            raise ValueError(f"{loaf['name']} needs some minutes in the oven")
        if loaf["minutes"] > 600:
            logger.warning("%s stays for long", loaf["name"])
            await asyncio.Event().wait()
        figures["baked"] += 1
        logger.info("%s is done", loaf["name"])
    figures["ended"] = "well"
    print("oven off")
    return {"baked": figures["baked"]}
except ValueError as error:
    figures["ended"] = type(error).__name__
    logger.error("the oven stops: %s", error)
    raise
finally:
    figures["seconds"] = time.perf_counter() - started
    key = f"figures:{workflow_name}"
    await meters.lpush(key, json.dumps({"step": step_name, "attempt": ctx.attempt, **figures}))
    await meters.ltrim(key, 0, 4)
"""


def register(gateway: Gateway) -> None:
    workflow = WorkflowBuilder("bake").add_async_code("oven", BAKE, required_resources=["meters"]).build()
    gateway.register_workflow("bake", workflow)
