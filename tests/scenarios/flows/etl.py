"""Readings of tide gauges: from a database, through a plain function, to a cache that a display board reads."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

from torana_server import Gateway, WorkflowBuilder

EXTRACT = """
harbour = await get_resource("harbour")
rows = await harbour.fetch(
    "SELECT gauge, level_cm, taken_at FROM readings WHERE taken_at >= $1 ORDER BY gauge, taken_at", since
)
await progress(1.0, f"{len(rows)} readings")
return {"readings": [dict(row) for row in rows]}
"""

LOAD = """
board = await get_resource("board")
async with board.pipeline(transaction=True) as writes:
    for gauge, tide in tides.items():
        key = f"tide:{gauge}"
        writes.hset(key, mapping={"low_m": str(tide["low_m"]), "high_m": str(tide["high_m"])})
        writes.expire(key, 3600)
    await writes.execute()
return {"gauges": len(tides)}
"""


def highest_and_lowest(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """Metres by gauge. Raises ValueError for a level that no tide has."""
    levels: dict[str, list[int]] = defaultdict(list)
    for reading in readings:
        if not -1_000 <= reading["level_cm"] <= 2_000:
            raise ValueError(f"gauge {reading['gauge']} reads {reading['level_cm']} cm, which is no tide")
        levels[reading["gauge"]].append(reading["level_cm"])
    tides = {
        gauge: {"low_m": Decimal(min(those)) / 100, "high_m": Decimal(max(those)) / 100}
        for gauge, those in levels.items()
    }
    return {"tides": tides}


def register(gateway: Gateway) -> None:
    workflow = (
        WorkflowBuilder("tides")
        .add_async_code("extract", EXTRACT, required_resources=["harbour"])
        .add_step("transform", highest_and_lowest)
        .add_async_code("load", LOAD, required_resources=["board"])
        .add_connection("extract", "readings", "transform", "readings")
        .add_connection("transform", "tides", "load", "tides")
        .build()
    )
    gateway.register_workflow("tides", workflow)
