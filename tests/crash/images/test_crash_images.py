"""The SQLite journal after a crash at every operation on its files, by kill and by power failure.

Each seed is another workload with other crashes; `CRASH_IMAGE_SEEDS=500` tries as many. A failure names its seed,
place and kind of crash; the test of that seed, alone, makes the same image again.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from crash.images.checker import BrokenPromiseError, LostError, check
from crash.images.disk import Disk, Image, with_stale_index
from crash.images.promises import Acknowledged, Begun, Moment, Promised, moments
from crash.images.workload import record, recorded

SEEDS: Final = range(int(os.environ.get("CRASH_IMAGE_SEEDS", "4")))
EXECUTIONS: Final = 6
EXECUTIONS_WITH_FAULTS: Final = 3
STALE_INDEX_ODDS: Final = 0.2
CRASHES_IN_RECOVERY: Final = 12
"""How many images are opened, and crash again while they are."""
IMAGES_EACH: Final = 10
"""Images of each of these."""
EMPTY: Final[Image] = {"journal.db": b""}
NOTHING: Final = Promised()

Log = list[Any]
pytestmark = pytest.mark.slow


class Crash(NamedTuple):
    """`place` counts the entries of the log that came before."""

    place: int
    kind: str
    image: Image
    moment: Moment


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where there is such a place: what is synced there costs nothing."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="torana-", dir=memory if memory.is_dir() else None))
    yield root
    shutil.rmtree(root)


def crashes(log: Log, draw: random.Random, *, before: Image = EMPTY, kept: Promised = NOTHING) -> Iterator[Crash]:
    """Every image that differs from the one before of its kind."""
    disk = Disk(before)
    last: dict[str, Image] = {}
    entries = [*log, None]
    for place, (entry, moment) in enumerate(zip(entries, moments(log, kept), strict=True)):
        for kind, image in (("killed", disk.killed()), ("dropped", disk.dropped()), ("torn", disk.torn(draw))):
            if draw.random() < STALE_INDEX_ODDS:
                image = with_stale_index(image, draw)
            if last.get(kind) != image:
                last[kind] = image
                yield Crash(place, kind, image, moment)
        if entry is not None and not isinstance(entry, Begun | Acknowledged):
            disk.apply(entry)


def write(image: Image, folder: Path) -> Path:
    data = folder / "image"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    for name, content in image.items():
        (data / name).write_bytes(content)
    return data


def check_crash(crash: Crash, folder: Path, draw: random.Random, vfs: str | None = None) -> Promised:
    try:
        return asyncio.run(check(write(crash.image, folder), crash.moment, draw, vfs))
    except BrokenPromiseError as error:
        error.add_note(f"{crash.kind} before entry {crash.place} of the log")
        raise


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_acknowledged_survives_a_crash_at_every_operation(seed: int, folder: Path) -> None:
    draw = random.Random(seed)
    log = record(seed, folder / "recorded", EXECUTIONS)
    images = 0
    for crash in crashes(log, draw):
        check_crash(crash, folder, draw)
        images += 1
    print(f"seed {seed}: {images} images of {len(log)} entries")
    assert images >= len(log), "there is at least one image for every operation"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crash_while_the_journal_recovers_from_a_crash_loses_nothing_either(seed: int, folder: Path) -> None:
    draw = random.Random(seed)
    first = list(crashes(record(seed, folder / "recorded", EXECUTIONS), draw))
    for crash in draw.sample(first, CRASHES_IN_RECOVERY):
        log: Log = []
        with recorded(log) as vfs:
            kept = check_crash(crash, folder, draw, vfs)
        second = list(crashes(log, draw, before=crash.image, kept=kept))
        for again in draw.sample(second, min(IMAGES_EACH, len(second))):
            check_crash(again, folder, draw)


@pytest.mark.parametrize("faults", [{"synchronous": "NORMAL"}, {"lies_about": "-wal"}], ids=["normal", "no-fsync"])
def test_the_check_finds_what_commits_without_fsync_lose(faults: dict[str, str], folder: Path) -> None:
    draw = random.Random(0)
    lost = broken = images = 0
    for crash in crashes(record(0, folder / "recorded", EXECUTIONS_WITH_FAULTS, **faults), draw):
        images += 1
        try:
            check_crash(crash, folder, draw)
        except LostError:
            lost += 1
        except BrokenPromiseError:
            broken += 1
    print(f"{faults}: {lost} of {images} images lost something acknowledged, {broken} broke something else")
    assert lost > images // 10
