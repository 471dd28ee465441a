"""Debug mode: a step that looks at the request's flag, and a registration whose inputs and outputs become events."""

from __future__ import annotations

from typing import Any

import pytest

from integration.conftest import PostgresDatabase
from scenarios.running import Outcome, Reference, Run

WAGON = {"wagon": "W7", "tare_kg": 22_000, "note": "coal", "cents_per_tonne": 450}


@pytest.fixture
async def bridge(sql: Any, database: Reference) -> dict[str, Reference]:
    await sql.execute("CREATE TABLE weighings (wagon text PRIMARY KEY, gross_kg int)")
    await sql.execute("INSERT INTO weighings VALUES ('W7', 82000)")
    return {"bridge": database}


def debug_lines(outcome: Outcome, step: str) -> list[tuple[str, Any]]:
    """The messages of a step's debug lines, with the data beside them."""
    lines = [event.data for event in outcome.of("step_log", step) if event.data["level"] == "debug"]
    return [(line["message"], line["data"]) for line in lines]


async def test_without_debug_mode_nothing_of_it_is_to_be_seen(run: Run, bridge: dict[str, Reference]) -> None:
    outcome = await run("weighbridge", WAGON, resources=bridge)
    assert outcome.result["weigh"] == {"wagon": "W7", "net_kg": 60_000}
    assert outcome.result["bill"] == {"cents": 27_000, "note": "coal"}
    assert outcome.of("step_log") == []


async def test_a_step_reads_the_debug_flag_of_the_request(run: Run, bridge: dict[str, Reference]) -> None:
    outcome = await run("weighbridge", WAGON, resources=bridge, context={"debug": True})
    found = outcome.result["weigh"].pop("_debug")
    assert found["pool"] == {"size": 1, "free": 1}
    assert found["seconds"] > 0
    assert outcome.lines("weigh") == [
        'inputs: {"wagon": "W7", "tare_kg": 22000, "note": "coal"}',
        'outputs: {"wagon": "W7", "net_kg": 60000}',
    ]


async def test_a_debugged_workflow_shows_what_each_attempt_was_given_and_what_it_returned(
    run: Run, bridge: dict[str, Reference]
) -> None:
    outcome = await run("weighbridge_debugged", WAGON, resources=bridge)
    assert outcome.result["weigh"] == {"wagon": "W7", "net_kg": 60_000}, "the result is as without debug mode"
    given, said, returned = debug_lines(outcome, "weigh")
    assert given[1]["inputs"] == WAGON
    assert said[0] == "gross 82000 kg"
    assert returned[1]["output"] == {"wagon": "W7", "net_kg": 60_000}
    given, returned = debug_lines(outcome, "bill")
    assert given[1]["inputs"] == {**WAGON, "net_kg": 60_000, "rate": 450}
    assert returned[1]["output"] == {"cents": 27_000, "note": "coal"}


async def test_what_failed_shows_what_it_was_given(run: Run, bridge: dict[str, Reference]) -> None:
    outcome = await run("weighbridge_debugged", {**WAGON, "wagon": "W8"}, resources=bridge)
    assert (outcome.error.type, outcome.error.message) == ("LookupError", "wagon W8 was never on the bridge")
    ((_, given),) = debug_lines(outcome, "weigh")
    assert given["inputs"]["wagon"] == "W8"


async def test_a_password_that_was_stored_is_in_no_debug_line(
    run: Run, bridge: dict[str, Reference], postgres: PostgresDatabase
) -> None:
    careless = {**WAGON, "note": f"the password is {postgres.password}!"}
    outcome = await run("weighbridge_debugged", careless, resources=bridge)
    (_, first), *_ = debug_lines(outcome, "weigh")
    assert first["inputs"]["note"] == "the password is [redacted]!", "before any step had used it"
    (_, given), (_, returned) = debug_lines(outcome, "bill")
    assert given["inputs"]["note"] == returned["output"]["note"] == "the password is [redacted]!"
    assert postgres.password not in str(outcome.of("step_log"))


async def test_a_long_input_is_cut_in_the_debug_line_and_nowhere_else(run: Run, bridge: dict[str, Reference]) -> None:
    long = "x" * 100_000
    outcome = await run("weighbridge_debugged", {**WAGON, "note": long}, resources=bridge)
    assert outcome.result["bill"]["note"] == long
    (_, given), _ = debug_lines(outcome, "bill")
    shown = given["inputs"]["note"]
    assert shown.startswith("xxxx")
    assert len(shown) < 20_000
