"""`torana` as a process: servers to talk to and commands to judge by what they print and how they exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from torana_server.cli.root import app

ROOT = Path(__file__).resolve().parents[3]
TORANA = (sys.executable, "-m", "torana_server.cli")
TIMEOUT_S = 60

WORKFLOWS = {
    "hello": """
name: hello
steps:
  - name: greet
    type: code
    config:
      source: |
        await progress(0.5, "half")
        return {"greeting": f"Hello, {name}!"}
""",
    "fails": """
name: fails
steps:
  - name: divide
    type: code
    config:
      source: |
        logger.warning("about to divide")
        return 1 / 0
""",
    "endless": """
name: endless
steps:
  - name: wait
    type: code
    config:
      source: |
        await progress(0.1, "waiting")
        await asyncio.Event().wait()
""",
}


@dataclass(frozen=True, slots=True)
class RunningServer:
    process: subprocess.Popen[str]
    greeting: str
    address: str

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


def environment(**changes: str) -> dict[str, str]:
    """Without colours asked for and without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TORANA_")}
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", **changes}


@dataclass(frozen=True, slots=True)
class Ran:
    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str, stdin: str = "", **variables: str) -> Ran:
    """A client command in this process, which is quicker; a defect is raised."""
    ran = CliRunner().invoke(app, arguments, input=stdin, env={"NO_COLOR": "1", **variables}, catch_exceptions=False)
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


def torana(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Any command, in a process of its own."""
    return subprocess.run(
        [*TORANA, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(**variables),
        check=False,
    )


def write_workflows(folder: Path) -> Path:
    folder.mkdir()
    for name, text in WORKFLOWS.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder


@contextmanager
def serving(folder: Path, *options: str, **variables: str) -> Iterator[RunningServer]:
    """A `torana serve` of its own on a free port, stopped at the end if it still runs."""
    arguments = ["--address", "127.0.0.1:0", "--data-dir", str(folder / "data"), *options]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [*TORANA, "serve", *arguments], stdout=subprocess.PIPE, stderr=log, text=True, env=environment(**variables)
        )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        greeting = "".join(lines)
        assert "listens on" in greeting, (folder / "serve.log").read_text("utf-8")
        yield RunningServer(process, greeting, greeting.split("listens on ")[1].split()[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(TIMEOUT_S)
        process.stdout.close()
