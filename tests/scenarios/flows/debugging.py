"""A weighbridge, registered twice: as it is, and in debug mode, where what its steps get and return become events."""

from __future__ import annotations

from torana_server import Gateway, WorkflowBuilder

WEIGH = """
started = time.perf_counter()
debug = context.get("debug", False)
if debug:
    logger.info("inputs: %s", json.dumps({"wagon": wagon, "tare_kg": tare_kg, "note": note}))

bridge = await get_resource("bridge")
gross_kg = await bridge.fetchval("SELECT gross_kg FROM weighings WHERE wagon = $1", wagon)
if gross_kg is None:
    raise LookupError(f"wagon {wagon} was never on the bridge")
logger.debug("gross %d kg", gross_kg)
result = {"wagon": wagon, "net_kg": gross_kg - tare_kg}

if debug:
    logger.info("outputs: %s", json.dumps(result))
    result["_debug"] = {
        "seconds": time.perf_counter() - started,
        "pool": {"size": bridge.size, "free": bridge.freesize},
    }
return result
"""


def bill(net_kg: int, rate: int, note: str) -> dict[str, object]:
    return {"cents": net_kg * rate // 1_000, "note": note}


def register(gateway: Gateway) -> None:
    workflow = (
        WorkflowBuilder("weighbridge")
        .add_async_code("weigh", WEIGH, required_resources=["bridge"])
        .add_step("bill", bill, inputs={"rate": "${parameters.cents_per_tonne}"})
        .add_connection("weigh", "net_kg", "bill", "net_kg")
        .build()
    )
    gateway.register_workflow("weighbridge", workflow)
    gateway.register_workflow("weighbridge_debugged", workflow, metadata={"debug": True})
