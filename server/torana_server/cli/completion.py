"""`torana completion`: the script by which a shell completes commands, options, names and ids."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined] # public, but not marked so

from torana_server.cli import output

PROGRAM = "torana"
VARIABLE = "_TORANA_COMPLETE"


completion_init()  # else only the options --install-completion would bring typer's scripts and answers


class Shell(enum.StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that will read it.")]) -> None:
    """Print the completion script of a shell.

    Names of workflows, secrets and resources and ids of executions are asked from the server, for a second at most.
    """
    output.write_line(get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))
