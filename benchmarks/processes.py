"""Server processes for benchmarks: started with a pipe, stopped by closing it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Served:
    port: int
    process: psutil.Process

    def rss_kib(self) -> float:
        return float(self.process.memory_info().rss) / 1024


@contextlib.asynccontextmanager
async def served(module: str, *arguments: str) -> AsyncIterator[Served]:
    """Runs `python -m module`, which prints its port and serves until its standard input closes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        if not line:
            raise RuntimeError(f"{module} ended before it served; see its error above")
        yield Served(int(line), psutil.Process(process.pid))
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()
