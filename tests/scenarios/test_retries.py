"""Retry with backoff, declared and within the step: every try carries the same key, and each is to be seen."""

from __future__ import annotations

from datetime import timedelta

import pytest
from aiohttp import web

from scenarios.api import Api, Asked
from scenarios.flows.retries import POLICY
from scenarios.running import Run

PARCEL = {"to": "Quai 5", "grams": 300}


class Carrier:
    """Busy for the first `failures` requests; then one label for each idempotency key, however often it comes."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.labels: dict[str, str] = {}

    async def answer(self, asked: Asked) -> web.Response:
        if asked.body["to"] == "nowhere":
            return web.json_response({"error": "no such address"}, status=422)
        label = self.labels.setdefault(asked.headers["Idempotency-Key"], f"L{len(self.labels) + 1}")
        if self.failures > 0:
            self.failures -= 1
            return web.json_response({"error": "the printer is warming up"}, status=503)
        return web.json_response({"label": label})


@pytest.fixture
def carrier(api: Api) -> Carrier:
    carrier = Carrier(failures=3)
    api.on("/labels", carrier.answer)
    return carrier


async def test_a_declared_retry_succeeds_when_the_carrier_does(run: Run, api: Api, carrier: Carrier) -> None:
    outcome = await run("label", {"parcel": PARCEL}, resources={"carrier": api.reference()})
    assert outcome.result["print"] == {"label": "L1", "attempts": 4}
    assert len(carrier.labels) == 1, "four requests had one idempotency key"
    assert len(api.asked) == 4
    retrying = outcome.of("step_retrying", "print")
    assert [event.attempt for event in retrying] == [1, 2, 3]
    assert {event.data["error"].type for event in retrying} == {"BusyError"}
    assert [event.attempt for event in outcome.of("step_started", "print")] == [1, 2, 3, 4]


async def test_pauses_grow_and_none_is_longer_than_declared(run: Run, api: Api, carrier: Carrier) -> None:
    outcome = await run("label", {"parcel": PARCEL}, resources={"carrier": api.reference()})
    pauses = [event.data["next_attempt_time"] - event.time for event in outcome.of("step_retrying")]
    declared = [timedelta(seconds=POLICY.initial_interval_s * 2**number) for number in range(3)]
    assert all(pause <= longest for pause, longest in zip(pauses, declared, strict=True))
    assert pauses[2] > pauses[0]


async def test_a_policy_that_is_used_up_ends_with_the_last_error(run: Run, api: Api, carrier: Carrier) -> None:
    carrier.failures = 99
    outcome = await run("label", {"parcel": PARCEL}, resources={"carrier": api.reference()})
    assert (outcome.status, outcome.error.type, outcome.error.attempt) == ("failed", "BusyError", 4)
    assert outcome.error.message == "the printer is warming up"
    assert len(api.asked) == 4


@pytest.mark.parametrize("workflow", ["label", "persistent_label"])
async def test_what_will_never_work_is_not_tried_again(run: Run, api: Api, carrier: Carrier, workflow: str) -> None:
    outcome = await run(workflow, {"parcel": {"to": "nowhere"}}, resources={"carrier": api.reference()})
    assert (outcome.error.type, outcome.error.message) == ("BadAddressError", "no such address")
    assert (len(api.asked), outcome.of("step_retrying")) == (1, [])


async def test_a_step_that_persists_by_itself_is_one_attempt(run: Run, api: Api, carrier: Carrier) -> None:
    outcome = await run("persistent_label", {"parcel": PARCEL}, resources={"carrier": api.reference()})
    assert outcome.result["print"] == {"label": "L1", "tries": 4}
    assert outcome.lines() == [f"try {number}: the printer is warming up" for number in (1, 2, 3)]
    assert outcome.of("step_retrying") == []
    assert len(carrier.labels) == 1


async def test_a_step_that_persists_in_vain_fails_with_the_last_error(run: Run, api: Api, carrier: Carrier) -> None:
    carrier.failures = 99
    outcome = await run("persistent_label", {"parcel": PARCEL}, resources={"carrier": api.reference()})
    assert (outcome.status, outcome.error.type, len(api.asked)) == ("failed", "BusyError", 4)


async def test_two_executions_have_two_keys(run: Run, api: Api, carrier: Carrier) -> None:
    carrier.failures = 0
    labels = [
        (await run("label", {"parcel": PARCEL}, resources={"carrier": api.reference()})).result["print"]["label"]
        for _ in range(2)
    ]
    assert labels == ["L1", "L2"]
