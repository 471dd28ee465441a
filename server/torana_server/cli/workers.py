"""Several server processes on one port, and the process that looks after them.

The kernel shares connections out among all who listen on a port with SO_REUSEPORT. This process holds the port without
listening, starts the workers, starts again whichever ends by itself, and passes signals on: SIGTERM and SIGINT drain,
SIGHUP reloads, and a second SIGTERM or SIGINT stops at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from torana_server.cli import output
from torana_server.cli.exits import Exit, UsageError
from torana_server.settings import Settings, environment

AGAIN_S: Final = 1.0
"""Between the end of a worker and the start of the next in its place."""
STARTED_S: Final = 10.0
"""A worker that refuses to start within so long of the first start of all ends them all: so would the next."""


def serve_with_workers(settings: Settings, arguments: Sequence[str]) -> int:
    """Until a signal; the exit code. `arguments` are those of this command, which each worker gets, too.

    Raises UsageError for what cannot be shared, OSError for an address that is taken.
    """
    if settings.address.startswith("unix:"):
        raise UsageError("several workers share a port; give --address HOST:PORT instead of a socket file")
    with _port_held(settings.address) as address:
        command = [sys.executable, "-m", "torana_server.cli", *arguments, "--address", address, "--workers", "1"]
        return asyncio.run(_Workers(settings.workers, command, environment(port_shared="true")).run())


@contextmanager
def _port_held(address: str) -> Iterator[str]:
    """The address with the port that was taken, which stays taken between two workers."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((bare, int(port)))
        yield f"{host}:{holder.getsockname()[1]}"


class _Workers:
    def __init__(self, count: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._count = count
        self._command = command
        self._environment = environment
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._code = int(Exit.COMPLETED)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        output.note(f"{self._count} workers")
        places = [asyncio.create_task(self._keep(greets=number == 0)) for number in range(self._count)]
        await asyncio.gather(*places)
        return self._code

    async def _keep(self, *, greets: bool) -> None:
        """One place among the workers, until all stop. The first worker of the first place greets."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not self._stopping.is_set():
            worker = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdout=None if greets else asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which passes it on once
            )
            greets = False
            self._running.add(worker)
            if self._stopping.is_set():
                worker.terminate()
            code = await worker.wait()
            self._running.discard(worker)
            if self._stopping.is_set():
                self._code = self._code or max(code, 0)
            elif code > 0 and loop.time() - begun < STARTED_S:
                self._code = code
                self._stop()
            else:
                output.note(f"worker {worker.pid} ended with {code}; another one takes its place")
                await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S):
                await self._stopping.wait()

    def _stop(self) -> None:
        """A worker takes a second signal for an order to stop at once."""
        self._stopping.set()
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._running:
            worker.send_signal(number)
