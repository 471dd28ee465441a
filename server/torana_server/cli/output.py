"""The two consoles. Answers go to standard output, what went wrong to standard error.

Rich leaves escapes out when a stream is no terminal and heeds NO_COLOR; nothing a server says is read as markup.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from torana_server.cli.view import one_line


def stdout() -> Console:
    return _console(Console(markup=False, emoji=False, highlight=False))


def stderr() -> Console:
    return _console(Console(stderr=True, markup=False, emoji=False, highlight=False))


def _console(console: Console) -> Console:
    """A pipe has no width: its lines stay whole."""
    console.soft_wrap = not console.is_terminal
    return console


def say(line: str | Text) -> None:
    """One line of standard output."""
    stdout().print(line)


def note(text: str) -> None:
    """A line on standard error that is no error."""
    stderr().print(Text(text, "dim"))


def report(message: str) -> None:
    """An error for people; continuation lines stay indented."""
    first, *rest = message.split("\n")
    console = stderr()
    console.print(Text.assemble(("error: ", "bold red"), one_line(first)))
    for line in rest:
        console.print(Text(f"  {one_line(line.strip())}"))


def print_json(lines: list[str], console: Console) -> None:
    highlight = JSONHighlighter()
    for line in lines:
        text = Text(line)
        highlight.highlight(text)
        console.print(text)


def write_line(line: str) -> None:
    """A line for programs, as it is, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
