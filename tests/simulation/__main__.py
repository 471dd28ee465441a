"""`python -m simulation`: as many seeds as there is time for, or one seed again with everything that happened."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from simulation.campaign import Tally, campaign
from simulation.history import Committed, Entry, Seen, Sent
from simulation.planted import PLANTS
from simulation.promises import broken
from simulation.scenario import NO_PLANT, Plant, simulate

CHUNK = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many runs (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="this one alone, with everything that happened")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="with this bug in it")
    arguments = parser.parse_args()
    plant = PLANTS[arguments.plant] if arguments.plant else NO_PLANT
    if arguments.seed is not None:
        return _tell(arguments.seed, plant)
    return _run(range(arguments.first, arguments.first + arguments.seeds), plant)


def _run(seeds: range, plant: Plant) -> int:
    began = time.monotonic()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    total = Tally()
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for tally in processes.map(campaign, chunks, [plant] * len(chunks)):
            total.happened += tally.happened
            total.broken |= tally.broken
            if tally.broken:
                print(tally.report, flush=True)
    for kind, runs in sorted(total.happened.items()):
        print(f"{runs:8d}  {kind}")
    print(f"{len(seeds)} seeds in {time.monotonic() - began:.1f} s, {len(total.broken)} broke a promise")
    return 1 if total.broken else 0


def _tell(seed: int, plant: Plant) -> int:
    history = simulate(seed, plant)
    for entry in history.entries:
        print(f"{entry.at_s:9.4f} {' '.join(_parts(entry))}")
    what = broken(history)
    print(*(what or ["no promise was broken"]), sep="\n")
    print(f"digest {history.digest}")
    return 1 if what else 0


def _parts(entry: Entry) -> Iterator[str]:
    yield type(entry).__name__.lower()
    for name, field in entry._asdict().items():
        if name == "events":
            yield ", ".join(f"{event.sequence} {event.kind.name.lower()} {event.step}".strip() for event in field)
        elif name != "at_s" and not (name == "where" and isinstance(entry, Seen)) and not isinstance(entry, Sent):
            yield f"{name}={field}" if isinstance(entry, Committed) or not isinstance(field, str) else field


if __name__ == "__main__":
    sys.exit(main())
