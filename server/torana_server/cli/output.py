"""The two consoles and the forms of an answer. Answers go to standard output, what went wrong to standard error.

Rich leaves escapes out when a stream is no terminal and heeds NO_COLOR, FORCE_COLOR and TERM=dumb; nothing a server
says is read as markup.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.padding import Padding
from rich.text import Text

from torana_server.cli.view import Listing, listing_table, one_line, tabbed_lines, value_json, yaml_text


class Format(enum.StrEnum):
    """How an answer is written: for people, or for programs."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Output = Annotated[
    Format,
    typer.Option("--output", "-o", metavar="table|json|yaml", case_sensitive=False, help="How to write the answer."),
]
StreamOutput = Annotated[
    Format,
    typer.Option(
        "--output",
        "-o",
        metavar="table|json|yaml",
        case_sensitive=False,
        help="For people, or one JSON object a line, or one YAML document an event.",
    ),
]
"""For commands that write one thing after another, without knowing when it ends."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process with a code of its own."""
        raise BrokenPipeError


def stdout() -> Console:
    return _console(_Console(markup=False, emoji=False, highlight=False))


def stderr() -> Console:
    return _console(_Console(stderr=True, markup=False, emoji=False, highlight=False))


def _console(console: Console) -> Console:
    """A pipe has no width: its lines stay whole."""
    console.soft_wrap = not console.file.isatty()
    return console


def is_screen(console: Console) -> bool:
    """Whether somebody looks at it and it can draw. FORCE_COLOR gives a pipe colours and leaves it a pipe."""
    is_terminal = console.is_terminal and not console.soft_wrap and not console.is_dumb_terminal
    return is_terminal and _is_unicode(console.encoding)


def draws_lines(console: Console) -> bool:
    """Whether boxes and arrows can be drawn; ASCII stands in for them elsewhere."""
    return is_screen(console)


def answer(value: object, form: Format, drawn: Callable[[Console], None]) -> None:
    """One whole answer: `value` as one JSON value or YAML document, or what `drawn` prints for people."""
    if form is Format.TABLE:
        drawn(stdout())
    else:
        whole(value, form)


def whole(value: object, form: Format) -> None:
    """One JSON value over several lines, or one YAML document."""
    write_line(yaml_text(value).removesuffix("\n") if form is Format.YAML else _json(value, indent=2))


def answer_listing(values: object, form: Format, listing: Listing) -> None:
    """Several alike: a table on a terminal, tabs between whole values in a pipe."""
    answer(values, form, lambda console: print_listing(listing, console))


def item(value: object, form: Format) -> None:
    """One of a stream: a JSON object on a line, or a YAML document after a line `---`."""
    if form is Format.YAML:
        write_line(f"---\n{yaml_text(value)}".removesuffix("\n"))
    else:
        write_line(_json(value))


def print_listing(listing: Listing, console: Console) -> None:
    if console.soft_wrap:
        for line in tabbed_lines(listing):
            write_line(line)  # Rich would expand the tabs
    elif listing.rows:
        console.print(listing_table(listing))
    elif listing.empty:
        note(listing.empty)


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
        print_hanging(Text(f"  {one_line(line.strip())}"), console, indent=4)


def print_hanging(line: Text, console: Console, indent: int) -> None:
    """A line of which what does not fit goes below its beginning, further in."""
    if console.soft_wrap or console.width <= 2 * indent:
        console.print(line)
        return
    first, *_ = line.wrap(console, console.width)
    console.print(first)
    rest = line[len(first.plain) :]
    rest.plain = rest.plain.strip()
    if rest.plain:
        console.print(Padding(rest, (0, 0, 0, indent)))


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


def _json(value: object, indent: int | None = None) -> str:
    return value_json(value, indent=indent, ascii_only=not _is_unicode(sys.stdout.encoding))


def _is_unicode(encoding: str | None) -> bool:
    return (encoding or "").lower().startswith("utf")
