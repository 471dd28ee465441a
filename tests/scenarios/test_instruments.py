"""Instrumented steps: logged lines become events; figures are pushed also when the step fails or is cut short."""

from __future__ import annotations

import json
from typing import Any

from scenarios.running import Reference, Run

RYE = {"name": "rye", "minutes": 50}
SPELT = {"name": "spelt", "minutes": 40}


async def figures(keys: Any) -> list[dict[str, Any]]:
    """Newest first, without the time it took."""
    pushed = [json.loads(line) for line in await keys.lrange("figures:bake", 0, -1)]
    assert all(line.pop("seconds") >= 0 for line in pushed)
    return pushed


async def test_lines_become_events_with_their_level_and_figures_are_pushed(
    run: Run, cache: Reference, keys: Any
) -> None:
    outcome = await run("bake", {"loaves": [RYE, SPELT]}, resources={"meters": cache})
    assert outcome.result["oven"] == {"baked": 2}
    logged = [(event.data["level"], event.data["message"]) for event in outcome.of("step_log", "oven")]
    assert logged == [("info", "rye is done"), ("info", "spelt is done"), ("info", "oven off")]
    assert await figures(keys) == [{"step": "oven", "attempt": 1, "loaves": 2, "baked": 2, "ended": "well"}]


async def test_a_failure_is_measured_logged_and_still_a_failure(run: Run, cache: Reference, keys: Any) -> None:
    outcome = await run("bake", {"loaves": [RYE, {"name": "cake", "minutes": 0}]}, resources={"meters": cache})
    message = "cake needs some minutes in the oven"
    assert (outcome.status, outcome.error.type, outcome.error.message) == ("failed", "ValueError", message)
    last = outcome.of("step_log")[-1].data
    assert (last["level"], last["message"]) == ("error", f"the oven stops: {message}")
    assert await figures(keys) == [{"step": "oven", "attempt": 1, "loaves": 2, "baked": 1, "ended": "ValueError"}]


async def test_a_step_that_runs_out_of_time_pushes_its_figures_before_it_goes(
    run: Run, cache: Reference, keys: Any
) -> None:
    stone = {"name": "stone", "minutes": 9_999}
    outcome = await run("bake", {"loaves": [RYE, stone]}, resources={"meters": cache}, timeout=1.0)
    assert (outcome.status, outcome.error.reason) == ("failed", "EXECUTION_TIMEOUT")
    assert outcome.lines("oven") == ["rye is done", "stone stays for long"]
    assert await figures(keys) == [{"step": "oven", "attempt": 1, "loaves": 2, "baked": 1, "ended": "cut short"}]


async def test_the_list_keeps_the_newest_five(run: Run, cache: Reference, keys: Any) -> None:
    for count in range(7):
        await run("bake", {"loaves": [RYE] * count}, resources={"meters": cache})
    assert [line["baked"] for line in await figures(keys)] == [6, 5, 4, 3, 2]


async def test_a_line_cannot_forge_another(run: Run, cache: Reference) -> None:
    forged = {"name": "rye\n2026-01-01 ERROR all is lost \x1b[31m", "minutes": 5}
    outcome = await run("bake", {"loaves": [forged]}, resources={"meters": cache})
    assert outcome.lines("oven")[0] == "rye\\n2026-01-01 ERROR all is lost \\x1b[31m is done"
