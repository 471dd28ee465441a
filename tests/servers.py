"""A Torana server in a process of its own, that a test starts, kills and starts again on the same folder and port.

`python tests/servers.py MODULE DATA_DIR ADDRESS` serves what `MODULE.register(gateway)` registers and prints its port.
It is killed when its standard input closes, so that none outlives the test that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import psutil
import uvloop

from torana_server import Gateway
from torana_server.telemetry import configure_logging

SETTINGS = {"TORANA_LOG_FORMAT": "json"}
STOP_S_MAX = 30


class ServerProcess:
    """Keeps its folder and port over every start. Settings are `TORANA_*` variables without the prefix."""

    def __init__(self, workflows: str, data_dir: Path, **settings: object) -> None:
        self.workflows = workflows
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.port = 0
        given = {f"TORANA_{name.upper()}": str(value) for name, value in settings.items()}
        self.environment: Mapping[str, str] = {**os.environ, **SETTINGS, **given}
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once it serves. Raises RuntimeError with its log when it ends before that."""
        command = [sys.executable, __file__, self.workflows, str(self.data_dir), self.address]
        with self.log.open("a") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
            )
        self._process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self.kill()
            raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")
        self.port = int(line)

    def kill(self) -> None:
        """As `kill -9`."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            _reap(process)

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """As a machine that stalls: it does nothing until `resume`, and its connections stay open."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Asks it to drain and stop; `wait` follows."""
        self._running().send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Until it has ended by itself; its exit code."""
        process = self._running()
        code = process.wait(STOP_S_MAX)
        self._process = None
        _reap(process)
        return code

    def stop(self) -> None:
        """Drains, stops, and holds that it ended well."""
        self.terminate()
        code = self.wait()
        assert code == 0, f"the server ended with {code}:\n{self.log.read_text()}"

    def rss_mib(self) -> float:
        return float(psutil.Process(self._running().pid).memory_info().rss) / 2**20

    def peak_rss_mib(self) -> float:
        """The most it ever took, as the kernel recorded it."""
        status = Path(f"/proc/{self._running().pid}/status").read_text()
        (kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(kib) / 1024

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "start comes first"
        return self._process


@contextlib.contextmanager
def running_server(workflows: str, data_dir: Path, **settings: object) -> Iterator[ServerProcess]:
    """A server that serves, killed at the end whatever the test did."""
    server = ServerProcess(workflows, data_dir, **settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Gates:
    """Where steps of another process wait for the test: `pass_gate` connects, `arrived` sees it, `open` lets it go.

    A gate that is opened lets through whoever comes later, too.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._arrivals: dict[str, asyncio.Queue[None]] = {}
        self._open: dict[str, asyncio.Event] = {}

    async def arrived(self, name: str) -> None:
        """Until one more step waits, or has waited, at the gate."""
        await self._arrivals.setdefault(name, asyncio.Queue()).get()

    def open(self, name: str) -> None:
        self._open.setdefault(name, asyncio.Event()).set()

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        self._arrivals.setdefault(name, asyncio.Queue()).put_nowait(None)
        opened = asyncio.ensure_future(self._open.setdefault(name, asyncio.Event()).wait())
        gone = asyncio.ensure_future(_gone(reader))  # a killed server must not keep the test's connections
        await asyncio.wait((opened, gone), return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        gone.cancel()
        writer.write(b"go\n")
        writer.close()


@contextlib.asynccontextmanager
async def gates() -> AsyncIterator[Gates]:
    made = Gates(0)
    listener = await asyncio.start_server(made.admit, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield made


async def pass_gate(port: int, name: str) -> None:
    """For steps: waits until the test that listens on `port` opens the gate. Raises ConnectionError if it is gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{name}\n".encode())
        if await reader.readline() != b"go\n":
            raise ConnectionError("the test ended before it opened the gate")
    finally:
        writer.close()


async def _gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()


def _reap(process: subprocess.Popen[str]) -> None:
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def _die_with_the_test() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    workflows, data_dir, address = sys.argv[1:]
    threading.Thread(target=_die_with_the_test, daemon=True).start()
    gateway = Gateway(data_dir=data_dir)
    importlib.import_module(workflows).register(gateway)
    configure_logging(gateway.settings.log_level, gateway.settings.log_format)
    uvloop.run(gateway.serve_until_stopped(address, lambda port: print(port, flush=True)))


if __name__ == "__main__":
    main()
