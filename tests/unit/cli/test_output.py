"""Lines on the consoles."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from torana_server.cli import output
from torana_server.cli.encodings import fit_encodings


def printed(line: str, width: int, *, soft_wrap: bool = False) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, soft_wrap=soft_wrap, markup=False, highlight=False)
    console.soft_wrap = soft_wrap
    output.print_hanging(Text(line), console, indent=4)
    return [one.rstrip() for one in file.getvalue().splitlines()]


def test_what_does_not_fit_stands_below_its_beginning_and_further_in() -> None:
    said = "  steps[1].config.cases: a route is named by a word, and not by a number"
    assert printed(said, 30) == [
        "  steps[1].config.cases: a",
        "    route is named by a word,",
        "    and not by a number",
    ]


@pytest.mark.parametrize(("width", "soft_wrap"), [(80, False), (20, True)])
def test_what_fits_or_goes_into_a_pipe_stays_one_line(width: int, soft_wrap: bool) -> None:
    assert printed("  steps[1].name: is taken", width, soft_wrap=soft_wrap) == ["  steps[1].name: is taken"]


def test_a_terminal_that_lacks_unicode_gets_lines_and_no_table_that_moves() -> None:
    class Latin(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    console = Console(file=Latin(io.BytesIO(), encoding="latin-1"), force_terminal=True, width=80)
    assert not output.is_screen(console)


def test_marks_have_a_likeness_in_ascii_and_other_characters_are_escaped() -> None:
    text = "✓ done · 東"
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as stream:
        fit_encodings(stream)
        stream.write(text)
        stream.flush()
        assert raw.getvalue() == b"+ done - \\u6771"
