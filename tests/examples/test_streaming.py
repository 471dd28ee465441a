from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from examples.running import EXAMPLES, python
from integration.cli.servers import RunningServer, environment, serving
from integration.proxy import proxy_to

READ = "token_stream/read.py"
QUESTION = "Why?"
ANSWER = "You asked: Why? A torana is a gateway, and whoever passes it leaves a trace."


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with serving(tmp_path, "--workflows", str(EXAMPLES / "token_stream")) as server:
        yield server


@contextmanager
def reading(server: RunningServer, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The reader as a process, and what it prints."""
    command = [sys.executable, str(EXAMPLES / READ), QUESTION, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(TORANA_ADDRESS=server.address)
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout


def test_tokens_are_printed_as_they_come(server: RunningServer) -> None:
    with reading(server, "--pause-ms", "50") as (process, printed):
        begun = printed.read(len("You asked:"))
        assert process.poll() is None, "the first tokens are there while the later ones are still to come"
        assert begun + printed.read() == f"{ANSWER} \n[completed: 15 tokens]\n"


def test_a_reader_that_was_stopped_says_how_to_read_on_and_then_prints_the_rest(
    tmp_path: Path, server: RunningServer
) -> None:
    with reading(server, "--pause-ms", "100") as (process, printed):
        begun = printed.read(len("You asked: Why? "))
        process.send_signal(signal.SIGINT)
        first, _, said = (begun + printed.read()).partition("\n[stopped; read on with ")
    second = python(tmp_path, READ, *said.rstrip("]\n").split(), TORANA_ADDRESS=server.address)
    assert f"{first}{second}" == f"{ANSWER} \n[completed: 15 tokens]\n"


async def test_a_reader_whose_connection_is_cut_prints_every_token_once(tmp_path: Path, server: RunningServer) -> None:
    port = int(server.address.rpartition(":")[2])
    async with proxy_to(port, budgets=[2_000, 1_000, 1_500]) as proxy:
        said = await asyncio.to_thread(python, tmp_path, READ, QUESTION, TORANA_ADDRESS=proxy.address)
        assert proxy.cuts == 3
    assert said == f"{ANSWER} \n[completed: 15 tokens]\n"
