"""Whether the machine's clock can be relied on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from torana_server.doctor.findings import Finding, ok, warning
from torana_server.doctor.folder import files_in

WATCHED_S = 0.2
STEP_MAX_S = 0.05
RELEASED = datetime(2026, 1, 1, tzinfo=UTC)
"""No correct clock shows an earlier time."""
AHEAD_MAX = timedelta(seconds=2)
ADVICE = "set the clock (chrony, ntpd): times of events and time limits rely on it"


def examine(data_dir: Path | None, now: datetime) -> Iterator[Finding]:
    """`data_dir` is None where it may not be looked into."""
    if now < RELEASED:
        yield warning("clock", f"it shows {now.isoformat(timespec='seconds')}, before this release was made", ADVICE)
        return
    step_s = step_of(time.time, time.monotonic, time.sleep)
    if abs(step_s) > STEP_MAX_S:
        yield warning("clock", f"it was set by {step_s:+.2f} s while it was watched", ADVICE)
        return
    late = _from_the_future(data_dir, now) if data_dir is not None and data_dir.is_dir() else []
    if late:
        yield warning("clock", f"{', '.join(late)} in {data_dir} changed after now", ADVICE)
    else:
        yield ok("clock", f"{now.isoformat(timespec='seconds')}, steady")


def step_of(wall: Callable[[], float], steady: Callable[[], float], wait: Callable[[float], None]) -> float:
    """Seconds that the wall clock gained on a steady one within WATCHED_S."""
    before = wall() - steady()
    wait(WATCHED_S)
    return wall() - steady() - before


def _from_the_future(data_dir: Path, now: datetime) -> list[str]:
    limit = (now + AHEAD_MAX).timestamp()
    return [name for name, status in files_in(data_dir) if status.st_mtime > limit]
