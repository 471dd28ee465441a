"""The Torana server of the demo: `torana serve` in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WORKFLOWS = Path(__file__).parent / "workflows"
STOP_TIMEOUT_S = 15
_LISTENS = re.compile(r"listens on 127\.0\.0\.1:(\d+) ")


class ServerStartError(Exception):
    """The server ended instead of listening; the message holds the end of its log."""


@dataclass(slots=True)
class ServerProcess:
    process: subprocess.Popen[str]
    log: Path
    _port: int = field(default=0)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_listening(self) -> int:
        """The port. Raises ServerStartError."""
        if not self._port:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                if found := _LISTENS.search(line):
                    self._port = int(found[1])
                    return self._port
            tail = "\n".join(self.log.read_text("utf-8").splitlines()[-5:])
            raise ServerStartError(f"the Torana server did not start\n{tail}")
        return self._port


@contextmanager
def torana_server(folder: Path) -> Iterator[ServerProcess]:
    """Starts it without waiting: it boots while PostgreSQL does. In a session of its own, so that Ctrl-C at the
    terminal reaches the demo alone, which then stops everything in order."""
    folder.mkdir()
    log = folder / "log"
    command = [sys.executable, "-m", "torana_server.cli", "serve", "--address", "127.0.0.1:0"]
    command += ["--data-dir", str(folder / "data"), "--workflows", str(WORKFLOWS), "--log-format", "json"]
    process = None
    try:
        with log.open("w") as stderr, _interrupts_held() as held:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        if held:
            raise KeyboardInterrupt
        yield ServerProcess(process, log)
    finally:
        if process is not None:
            _stop(process)


@contextmanager
def _interrupts_held() -> Iterator[list[int]]:
    """An interrupt between the start of a process and its name here would leave the process behind. It is kept in the
    list instead, for the caller to raise."""
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
