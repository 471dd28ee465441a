"""The closed-loop load generator: N callers, each with one call at a time, for some seconds after a warm-up."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """Rates are per second, times in milliseconds. A failed call counts in `errors` and nowhere else."""

    per_s: float
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    errors: int


async def drive(once: Callable[[], Awaitable[float]], *, callers: int, seconds: float, warmup_s: float = 1.0) -> Load:
    """Calls `once` over and over. It returns the seconds to its first event."""
    latencies: list[float] = []
    firsts: list[float] = []
    errors: list[Exception] = []
    start = time.perf_counter() + warmup_s
    stop = start + seconds

    async def caller() -> None:
        while time.perf_counter() < stop:
            began = time.perf_counter()
            try:
                first = await once()
            except Exception as error:  # noqa: BLE001 — counted and reported, not hidden
                errors.append(error)
                await asyncio.sleep(0.05)
                continue
            if began >= start:
                latencies.append(time.perf_counter() - began)
                firsts.append(first)

    await asyncio.gather(*(caller() for _ in range(callers)))
    if not latencies:
        raise RuntimeError(f"no call succeeded; the first error was {errors[0]!r}")
    latencies.sort()
    return Load(
        per_s=len(latencies) / seconds,
        p50_ms=1000 * statistics.median(latencies),
        p99_ms=1000 * latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        first_p50_ms=1000 * statistics.median(firsts),
        errors=len(errors),
    )
