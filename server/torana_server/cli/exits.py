"""Exit codes, and how errors become one. See `Exit` for what callers may rely on."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

import torana
from torana_server.cli import output
from torana_server.core.errors import InvalidRequestError as RefusedError
from torana_server.core.errors import ToranaError as ServerError


class Exit(enum.IntEnum):
    """The same for every command; `MEANINGS` says what each means."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    UNAVAILABLE = 4
    DEFECT = 70
    INTERRUPTED = 130
    READER_GONE = 141


MEANINGS = {
    Exit.COMPLETED: "Done. For `run` and `watch` of one execution: it completed.",
    Exit.FAILED: "It failed: the execution, a check, or the server.",
    Exit.USAGE: "The request cannot be carried out as it is: wrong options, a file that is not valid, a name that does"
    " not exist, not permitted.",
    Exit.CANCELLED: "The execution was cancelled; or a question was answered with no, and nothing was done.",
    Exit.UNAVAILABLE: "No server answered, or the connection was lost. The outcome is unknown.",
    Exit.DEFECT: "A defect of the command itself. Please report it with what `torana --debug …` prints.",
    Exit.INTERRUPTED: "Interrupted by Ctrl-C. An execution on a server goes on.",
    Exit.READER_GONE: "Whoever read the output has left, as with `| head`.",
}

_OF_STATUS = {"completed": Exit.COMPLETED, "failed": Exit.FAILED, "cancelled": Exit.CANCELLED}


class UsageError(Exception):
    """What the caller typed cannot be done; the message says what to type."""


def exit_of(status: str) -> Exit:
    """The code for the final state of an execution."""
    return _OF_STATUS[status]


@contextmanager
def errors_reported(reach: str = "") -> Iterator[None]:
    """Deliberate errors end the command with a message and their code; anything else is a defect and is passed on.

    `reach` is what hints add to a command so that it talks to the same server (`Connection.shown`).
    """
    try:
        yield
    except UsageError as error:
        _end(str(error), Exit.USAGE)
    except torana.ToranaError as error:
        _end(_told(error, reach), _code(error))
    except ServerError as error:
        _end(_refused(error), Exit.USAGE if isinstance(error, RefusedError) else Exit.FAILED)
    except BrokenPipeError:
        leave_reader()
        raise typer.Exit(Exit.READER_GONE) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


def leave_reader() -> None:
    """Standard output then points nowhere, so that closing it is silent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(message: str, code: Exit) -> None:
    output.report(message)
    raise typer.Exit(code)


def _code(error: torana.ToranaError) -> Exit:
    match error:
        case torana.errors.UnavailableError() | torana.errors.DeadlineExceededError():
            return Exit.UNAVAILABLE
        case torana.errors.ExhaustedError() | torana.errors.InternalError() | torana.errors.GapError():
            return Exit.FAILED
        case _:
            return Exit.USAGE


def _refused(error: ServerError) -> str:
    """Without the violations that the message itself tells already."""
    told = [str(violation) for violation in error.violations if violation.message not in error.message]
    return "\n".join([error.message, *told])


def _told(error: torana.ToranaError, reach: str) -> str:
    match error:
        case torana.errors.ConnectionLostError() if error.execution_id and error.last_sequence:
            hint = f"torana watch {error.execution_id} --after {error.last_sequence}{reach}"
            return f"{error}\nThe execution goes on. Continue with: {hint}"
        case torana.errors.UnavailableError() if not error.reason:
            return f"{error}\nIs a server running there? Start one with `torana serve`, or name another with --address."
        case torana.errors.EventsExpiredError() if error.execution is not None:
            return f"{error}\nThe execution itself is {error.execution.state}."
        case torana.errors.InternalError() if error.request_id:
            return f"{error}\nThe server's log has more under request {error.request_id}."
        case _:
            return str(error)
