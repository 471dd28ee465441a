"""Exit codes, and how errors become one. See `EXIT_CODES` for what callers may rely on."""

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
    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    UNAVAILABLE = 4
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 completed, 1 failed, 2 bad request or usage, 3 cancelled, "
    "4 no server or connection lost, 130 interrupted."
)

_OF_STATUS = {"completed": Exit.COMPLETED, "failed": Exit.FAILED, "cancelled": Exit.CANCELLED}


class UsageError(Exception):
    """What the caller typed cannot be done; the message says what to type."""


def exit_of(status: str) -> Exit:
    """The code for the final state of an execution."""
    return _OF_STATUS[status]


@contextmanager
def errors_reported() -> Iterator[None]:
    """Deliberate errors end the command with a message and their code; anything else is a defect and stays loud."""
    try:
        yield
    except UsageError as error:
        _end(str(error), Exit.USAGE)
    except torana.ToranaError as error:
        _end(_told(error), _code(error))
    except ServerError as error:
        _end(_refused(error), Exit.USAGE if isinstance(error, RefusedError) else Exit.FAILED)
    except BrokenPipeError:
        # The reader has gone, as with `| head`. Standard output then points nowhere, so that closing it is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


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


def _told(error: torana.ToranaError) -> str:
    match error:
        case torana.errors.ConnectionLostError() if error.execution_id:
            hint = f"torana watch {error.execution_id} --after {error.last_sequence}"
            return f"{error}\nThe execution goes on. Continue with: {hint}"
        case torana.errors.UnavailableError() if not error.reason:
            return f"{error}\nIs a server running there? Start one with `torana serve`, or name another with --address."
        case torana.errors.EventsExpiredError() if error.execution is not None:
            return f"{error}\nThe execution itself is {error.execution.state}."
        case torana.errors.InternalError() if error.request_id:
            return f"{error}\nThe server's log has more under request {error.request_id}."
        case _:
            return str(error)
