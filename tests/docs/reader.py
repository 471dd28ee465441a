"""Someone who follows a page from its first block to its last, in an empty folder.

What a block's language says is done with it:

- `console`: each line after `$ ` is a command; what follows is its output. A command that ends in ` &` goes on beside
  the others until the page ends, and its output is what it says first. What is exported is there for the later ones.
- `screen`: the same for one command on a terminal of 80 columns, where every line must be shown at some time.
- `python`: run in one session a page, where `await` works anywhere. A block that begins with the name of a file in a
  comment is written to that file instead.
- `output`: what the Python block before it prints.
- `yaml`: a definition, which must be valid; written to a file like Python.
- `json`, `toml`: must be read without a fault. `text` is no code.

In expected output `…` stands for anything. Ids, times and revisions are equal to any others, and log lines of the
server are left out.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs.pages import Block
from torana_server import Gateway
from torana_server.workflow import from_yaml

PORTS = ("7233", "7280", "7281")
"""Those that pages write; a reader has free ones in their place."""
COMMAND_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

SAME = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "REVISION"),
    (re.compile(r"\brevision [0-9a-f]{12}\b"), "revision SHORT"),
    (re.compile(r"generated-[0-9a-f]{12}\b"), "generated-KEY"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "TIME"),
    (re.compile(r"\b\d+\.\d+s\b"), "SECONDS"),
    (re.compile(r"[ \t]+"), " "),
)
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LOG_LINE = re.compile(r'^\{"time": .*"logger": .*\}\n', re.MULTILINE)

VAULT_KEY_LINE = re.compile(r"^made a vault key in .*\n", re.MULTILINE)
"""A log line as well, of a program that has not set up its logs."""


class PageError(AssertionError):
    """A block of a page does not do what the page says."""


@dataclass(slots=True)
class Reader:
    """`folder` is where the reader works, `ports` what each port of a page is here, `env` is set for every command."""

    folder: Path
    ports: dict[str, str]
    env: dict[str, str]
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    printed: str = ""
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    async def read(self, block: Block) -> None:
        """Raises PageError, naming the block."""
        doing = self._doing(block)
        if doing is None:
            raise PageError(f"{block}: nothing is known of the language {block.language!r}, and no reason is given")
        try:
            await doing(block)
        except PageError:
            raise
        except Exception as error:
            raise PageError(f"{block}: {type(error).__name__}: {error}") from error

    def leave(self) -> None:
        """Stops what still runs, as Ctrl-C at a terminal would."""
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(STOP_TIMEOUT_S)
            if process.stdout is not None:
                process.stdout.close()

    def _doing(self, block: Block) -> Callable[[Block], Any] | None:
        if block.file_name and block.language in ("python", "yaml", "toml"):
            return self._write
        known = {
            "console": self._console,
            "screen": self._screen,
            "python": self._python,
            "output": self._compare_printed,
        }
        known |= {"yaml": self._yaml, "json": self._json, "toml": self._toml, "text": self._nothing}
        return known.get(block.language)

    # files and data

    async def _write(self, block: Block) -> None:
        if block.language == "python":
            ast.parse(block.text)
        path = self.folder / block.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(block.text), "utf-8")
        if block.language == "yaml":
            await self._yaml(block)

    async def _yaml(self, block: Block) -> None:
        definition = from_yaml(block.text)
        Gateway(enable_durability=False).register_workflow(definition.name, definition)

    async def _json(self, block: Block) -> None:
        json.loads(block.text)

    async def _toml(self, block: Block) -> None:
        tomllib.loads(block.text)

    async def _nothing(self, block: Block) -> None:
        return None

    # Python

    async def _python(self, block: Block) -> None:
        code = compile(self._here(block.text), str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = eval(code, self.names)
            if inspect.iscoroutine(result):
                await result
        self.printed = printed.getvalue()

    async def _compare_printed(self, block: Block) -> None:
        require_same(block, "what the block above prints", block.text, self._there(self.printed))

    # commands

    async def _console(self, block: Block) -> None:
        for command, expected in commands(block):
            if command.endswith(" &"):
                said = await asyncio.to_thread(self._start, command.removesuffix(" &"), len(expected.splitlines()))
            else:
                said = await asyncio.to_thread(self._run, block, command)
                if command.startswith("export "):
                    self._export(command)
                if command.startswith("kill "):
                    await asyncio.to_thread(self.running[-1].wait, STOP_TIMEOUT_S)
            require_same(block, command, expected, self._there(said))

    async def _screen(self, block: Block) -> None:
        command, expected = commands(block)[0]
        env = {**self.env, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        shown = await asyncio.to_thread(on_a_terminal, ["bash", "-c", self._here(command)], self.folder, env)
        seen = {_drawn(line) for line in re.split(r"[\r\n]+", self._there(shown))}
        missing = [line for line in expected.splitlines() if _drawn(line) not in seen]
        if missing:
            raise PageError(f"{block}: {command}\n--- never shows\n" + "\n".join(missing))

    def _run(self, block: Block, command: str) -> str:
        ran = subprocess.run(
            ["bash", "-c", self._here(command)],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        if ran.returncode:
            raise PageError(f"{block}: `{command}` exited with {ran.returncode}\n{ran.stdout}")
        return ran.stdout

    def _export(self, command: str) -> None:
        name = command.removeprefix("export ").partition("=")[0]
        self.env[name] = subprocess.check_output(
            ["bash", "-c", f'{self._here(command)}; printf %s "${name}"'], cwd=self.folder, env=self.env, text=True
        )

    def _start(self, command: str, lines: int) -> str:
        with (self.folder / ".log").open("a") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {self._here(command)}"],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.running.append(process)
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(lines))
        return said if process.poll() is None else said + (self.folder / ".log").read_text()

    def _here(self, text: str) -> str:
        """`$!` is the last command that goes on beside the others, as in one shell."""
        for written, free in self.ports.items():
            text = text.replace(written, free)
        return text.replace("$!", str(self.running[-1].pid)) if self.running else text

    def _there(self, text: str) -> str:
        for written, free in self.ports.items():
            text = text.replace(free, written)
        return text


def environment(port: str) -> dict[str, str]:
    """The environment of this process without what would change how Torana runs, and with its commands first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TORANA_", "PG", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {
        **kept,
        "PATH": path,
        "TORANA_ADDRESS": f"127.0.0.1:{port}",
        "TORANA_SERVER": f"127.0.0.1:{port}",
        "NO_COLOR": "1",
    }


def commands(block: Block) -> list[tuple[str, str]]:
    """Each command of a console block with the output that follows it."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> ") and found:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
        elif not found:
            raise PageError(f"{block}: a console block begins with a command: `$ …`")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def on_a_terminal(command: list[str], folder: Path, env: dict[str, str]) -> str:
    """All that the command writes to its terminal, without what moves the cursor or sets colours."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, env=env, stdin=end, stdout=end, stderr=end)
    os.close(end)
    written = bytearray()
    with contextlib.suppress(OSError):  # how the system says that the other end is closed
        while chunk := os.read(terminal, 4_096):
            written += chunk
    os.close(terminal)
    process.wait(COMMAND_TIMEOUT_S)
    return CONTROL.sub("", written.decode())


def _drawn(line: str) -> str:
    """A line as it can be compared: bars and spinners move between two looks at them."""
    return re.sub(r"[━╸╺]+", "BAR", re.sub(r"^[⠀-⣿]", "SPINNER", _comparable(line))).replace(" BAR BAR", " BAR")


def require_same(block: Block, what: str, expected: str, said: str) -> None:
    wanted, got = _comparable(expected), _comparable(said)
    pattern = re.escape(wanted).replace("…", ".*?")
    if not re.fullmatch(pattern, got, re.DOTALL):
        raise PageError(f"{block}: {what}\n--- the page says\n{wanted}\n--- but it is\n{got}")


def _comparable(text: str) -> str:
    text = VAULT_KEY_LINE.sub("", LOG_LINE.sub("", text))
    for pattern, name in SAME:
        text = pattern.sub(name, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())
