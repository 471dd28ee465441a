"""The engine's promises P1–P10 under everything that can go wrong, seed by seed. See `scenario` and `promises`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.campaign import CONSEQUENCES, FAULTS, campaign
from simulation.planted import PLANTS
from simulation.promises import PROMISES
from simulation.scenario import simulate

SEEDS = 2_000
CHUNK = 500
"""Seeds a test runs: enough for everything that can go wrong to do so in each."""


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_promises_hold_whatever_goes_wrong(first: int) -> None:
    tally = campaign(range(first, first + CHUNK))
    assert not tally.broken, f"{len(tally.broken)} of {CHUNK} runs broke a promise:\n  {tally.report}"
    assert tally.happened.keys() >= FAULTS, f"never happened: {sorted(FAULTS - tally.happened.keys())}"
    assert tally.happened.keys() >= CONSEQUENCES, f"never came of it: {sorted(CONSEQUENCES - tally.happened.keys())}"


FOUND_BY = {
    "acknowledges before the commit": "P1 no event is out before it is durable",
    "forgets checkpoints": "P4 steps run at least once and are recorded once",
    "forgets keys": "P6 one key starts one execution",
    "has no fencing": "P7 only the fence holder writes",
    "loses retry timers": "P1 what was accepted is never lost",
    "takes a failed append for not written": "P2 all watchers see one gapless order",
    "takes a failed creation for not written": "P1 what was accepted is never lost",
}


@pytest.mark.parametrize("bug", sorted(PLANTS))
def test_a_planted_bug_is_found(bug: str) -> None:
    for seed in range(SEEDS):
        tally = campaign([seed], PLANTS[bug])
        if any(what.startswith(FOUND_BY[bug]) for what in tally.broken.get(seed, [])):
            return
    pytest.fail(f"a server that {bug} passes all {SEEDS} seeds")


def test_a_seed_replays_exactly() -> None:
    for seed in range(20):
        first, second = simulate(seed), simulate(seed)
        assert first.entries == second.entries, f"seed {seed} took another course"
        assert first.digest == second.digest


def test_a_seed_replays_exactly_in_another_process() -> None:
    """Where sets of texts have another order."""
    seeds = range(5)
    script = f"from simulation.scenario import simulate\nfor seed in {seeds}: print(simulate(seed).digest)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": "7"}
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [simulate(seed).digest for seed in seeds]


def test_every_promise_is_held() -> None:
    assert list(PROMISES) == [f"P{number}" for number in range(1, 11)]
    assert all(PROMISES.values())
