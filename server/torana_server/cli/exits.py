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
def errors_reported(reach: str = "", address: str = "") -> Iterator[None]:
    """Deliberate errors end the command with a message and their code; anything else is a defect and is passed on.

    `reach` is what hints add to a command so that it talks to the same server (`Connection.shown`), which is at
    `address`.
    """
    try:
        yield
    except UsageError as error:
        _end(str(error), Exit.USAGE)
    except torana.ToranaError as error:
        _end(_told(error, reach, address), _code(error))
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


def _told(error: torana.ToranaError, reach: str, address: str) -> str:
    said = _said(error)
    match error:
        case torana.errors.ConnectionLostError() if error.execution_id and error.last_sequence:
            hint = f"torana watch {error.execution_id} --after {error.last_sequence}{reach}"
            return f"{said}\nThe execution goes on. Continue with: {hint}"
        case torana.errors.UnavailableError() if not error.reason:
            return unreachable(error.message, address)
        case torana.errors.EventsExpiredError() if error.execution is not None:
            return f"{said}\nThe execution itself is {error.execution.state}."
        case torana.errors.InternalError() if error.request_id:
            return f"{said}\nThe server's log has more under request {error.request_id}."
        case torana.errors.WorkflowNotFoundError():
            return f"{said}\nSee `torana workflows list{reach}`; a file is named with its ending, as in etl.yaml."
        case torana.errors.ResourceNotFoundError():
            return f"{said}\nSee `torana resources list{reach}`."
        case torana.errors.SecretNotFoundError():
            return f"{said}\nSee `torana secrets list{reach}`."
        case torana.errors.ExecutionNotFoundError():
            return f"{said}\nSee `torana executions list{reach}`."
        case _:
            return said


def _said(error: torana.ToranaError) -> str:
    """Without the violations that the message itself tells already."""
    heading = f"{error.message} [{error.reason}]" if error.reason else error.message
    told = [str(violation) for violation in error.violations if violation.message not in error.message]
    return "\n".join([heading, *told])


_PLAIN_TEXT = "The server there speaks plain text, or something else: try without --tls and https://."
_TLS = "The server there may want TLS, or a certificate of yours: see --tls, --tls-ca and --tls-cert."
_NO_TRUST = "Its certificate is not trusted for this address: name its CA with --tls-ca FILE."
_NOBODY = "Is a server running there? Start one with `torana serve`, or name another with --address."
_REASONS = (
    ("WRONG_VERSION_NUMBER", "the TLS handshake failed", _PLAIN_TEXT),
    ("CERTIFICATE_VERIFY_FAILED", "the TLS handshake failed", _NO_TRUST),
    ("Hostname Verification Check failed", "the TLS handshake failed", _NO_TRUST),
    ("CERTIFICATE_REQUIRED", "the server asks for a certificate", "Give yours with --tls-cert and --tls-key."),
    ("Socket closed", "the connection was closed at once", _TLS),
    ("Connection refused", "the connection was refused", _NOBODY),
    ("errors resolving", "the host name is not known", _NOBODY),
    ("Name or service not known", "the host name is not known", _NOBODY),
)
"""What gRPC says, what it means, and what to do."""


def unreachable(message: str, address: str) -> str:
    """What gRPC says of a connection that failed, in words that say what to do."""
    for sign, meaning, advice in _REASONS:
        if sign in message:
            return f"no server can be reached at {address}: {meaning}\n{advice}"
    return f"{message}\n{_NOBODY}"
