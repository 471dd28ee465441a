"""Questions before what cannot be undone."""

from __future__ import annotations

import sys

import typer

from torana_server.cli import output
from torana_server.cli.exits import Exit, UsageError


def confirm(question: str, refusal: str) -> None:
    """Returns when the answer is yes. Otherwise the command ends as cancelled, saying `refusal`.

    Raises UsageError when nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"this asks first ({question}), and there is no terminal to ask at; give --yes")
    if not typer.confirm(question, err=True):
        output.note(refusal)
        raise typer.Exit(Exit.CANCELLED)
