"""Rate-limited calls: the API has a bucket of tokens, and refuses bursts; steps wait as they are told."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from scenarios.api import Api, Asked
from scenarios.running import Run

TOLD_S = 0.03
CLOSED_S = TOLD_S / 2  # clocks and timers of two processes do not agree to the last millisecond


@dataclass
class Herbarium:
    """Gives `burst` sheets, then refuses until the caller has waited. Counts who is refused and who is back early."""

    burst: int
    refused: int = 0
    early: int = 0
    _left: int = field(init=False)
    _opens: float = -math.inf

    def __post_init__(self) -> None:
        self._left = self.burst

    async def sheet(self, asked: Asked) -> web.Response:
        now = time.monotonic()
        if now >= self._opens and self._left > 0:
            self._left -= 1
            return web.json_response({"sheet": int(asked.path.rpartition("/")[2])})
        self.refused += 1
        self.early += now < self._opens
        self._left, self._opens = self.burst, now + CLOSED_S
        return web.json_response({"error": "too many"}, status=429, headers={"Retry-After": str(TOLD_S)})

    async def allowance(self, _: Asked) -> web.Response:
        self._left = self.burst
        return web.json_response({"sheets": self.burst})


@pytest.fixture
def herbarium(api: Api) -> Herbarium:
    herbarium = Herbarium(burst=3)
    api.on("/sheets", herbarium.sheet)
    api.on("/allowance", herbarium.allowance)
    return herbarium


def sheets(*numbers: int) -> list[dict[str, int]]:
    return [{"sheet": number} for number in numbers]


async def test_a_step_that_heeds_retry_after_gets_everything_and_never_comes_early(
    run: Run, api: Api, herbarium: Herbarium
) -> None:
    numbers = list(range(8))
    outcome = await run("heed_the_limit", {"numbers": numbers}, resources={"herbarium": api.reference()})
    assert outcome.result["fetch"] == {"sheets": sheets(*numbers), "waits": 2}
    assert (herbarium.refused, herbarium.early) == (2, 0)


async def test_a_step_that_asks_for_its_allowance_first_is_never_refused(
    run: Run, api: Api, herbarium: Herbarium
) -> None:
    numbers = list(range(8))
    outcome = await run("ask_first", {"numbers": numbers}, resources={"herbarium": api.reference()})
    assert outcome.result["fetch"] == {"sheets": sheets(*numbers)}
    assert (len(api.asked_for("/allowance")), herbarium.refused) == (3, 0)


async def test_a_step_in_a_hurry_is_refused_and_says_by_what(run: Run, api: Api, herbarium: Herbarium) -> None:
    outcome = await run("hurry", {"numbers": [1, 2, 3, 4]}, resources={"herbarium": api.reference()})
    assert (outcome.status, outcome.error.type) == ("failed", "ClientResponseError")
    assert "429" in outcome.error.message
    assert herbarium.refused == 1


async def test_a_declared_retry_comes_again_when_the_bucket_is_full(run: Run, api: Api, herbarium: Herbarium) -> None:
    resources = {"herbarium": api.reference()}
    await run("hurry", {"numbers": [1, 2, 3]}, resources=resources)
    outcome = await run("come_again", {"numbers": [4, 5]}, resources=resources)
    assert outcome.result["fetch"] == {"sheets": sheets(4, 5)}
    assert [event.attempt for event in outcome.of("step_retrying")] == [1]
    assert (herbarium.refused, herbarium.early) == (1, 0)


async def test_a_declared_retry_ends_with_the_refusal_when_the_bucket_stays_empty(
    run: Run, api: Api, herbarium: Herbarium
) -> None:
    herbarium.burst = 0
    await run("hurry", {"numbers": [1, 2, 3]}, resources={"herbarium": api.reference()})
    outcome = await run("come_again", {"numbers": [4]}, resources={"herbarium": api.reference()})
    assert (outcome.status, outcome.error.attempt, herbarium.refused) == ("failed", 3, 3)
    assert "429" in outcome.error.message
