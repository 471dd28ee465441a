"""The first moments of the process `torana`, before a command has begun."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from integration.cli.servers import TIMEOUT_S, environment, torana

HEAVY = ("aiohttp", "apsw", "asyncpg", "redis", "torana_server.app", "torana_server.gateway", "uvloop")

IMPORTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupted(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torana_server.cli.root":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
"""
BUILDING = """
import os, signal, typer.main
typer.main.get_command = lambda app: os.kill(os.getpid(), signal.SIGINT)
"""
COMPLETING = """
import os, signal, torana_server.cli.root as root
os.environ["_TORANA_COMPLETE"] = "complete_bash"
root.ready = lambda: lambda: os.kill(os.getpid(), signal.SIGINT)
"""


def python(source: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", source]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment(), check=False)


def test_a_command_that_talks_to_a_server_loads_none() -> None:
    ran = python(f"import sys, torana_server.cli.root; print([name for name in {HEAVY} if name in sys.modules])")
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


@pytest.mark.parametrize("moment", [IMPORTING, BUILDING, COMPLETING], ids=["importing", "building", "completing"])
def test_ctrl_c_before_a_command_has_begun_ends_it_without_a_word(moment: str) -> None:
    ran = python(f"{moment}\nfrom torana_server.cli import main\nmain()")
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGINT, "", "")


def test_a_taken_address_is_told_once_and_in_words_of_ours(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = torana("serve", "--address", given, "--data-dir", str(tmp_path), "--log-level", "ERROR")
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: the server cannot start: it cannot listen on {given}: the address is in use")
    assert ran.stderr.count("\n") == 1
