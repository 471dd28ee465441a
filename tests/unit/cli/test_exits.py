"""Errors become a message and an exit code."""

from __future__ import annotations

import grpc
import pytest
import typer

from torana import errors
from torana_server.cli.exits import UsageError, errors_reported, exit_of
from torana_server.core.errors import InvalidRequestError, StateError


def ended(error: BaseException) -> int:
    with pytest.raises(typer.Exit) as caught, errors_reported():
        raise error
    code: int = caught.value.exit_code
    return code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), 2),
        (errors.InvalidRequestError("no"), 2),
        (errors.WorkflowNotFoundError("no"), 2),
        (errors.ResourceNotBoundError("no"), 2),
        (errors.IdempotencyConflictError("no"), 2),
        (errors.PermissionDeniedError("no"), 2),
        (errors.QueueFullError("no"), 1),
        (errors.InternalError("no"), 1),
        (errors.GapError("no"), 1),
        (errors.UnavailableError("no", code=grpc.StatusCode.UNAVAILABLE), 4),
        (errors.ConnectionLostError("no"), 4),
        (errors.DeadlineExceededError("no"), 4),
        (InvalidRequestError("no"), 2),
        (StateError("no"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_has_its_code(error: BaseException, code: int) -> None:
    assert ended(error) == code


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 3)])
def test_each_final_state_has_its_code(status: str, code: int) -> None:
    assert exit_of(status) == code


def test_a_message_keeps_its_violations_on_lines_of_their_own(capsys) -> None:
    ended(errors.InvalidRequestError("bad", violations=[errors.Violation("a.b", "must be text")]))
    assert capsys.readouterr().err == "error: bad\n  a.b: must be text\n"


def test_a_message_cannot_steer_the_terminal(capsys) -> None:
    ended(errors.InvalidRequestError("\x1b[2Jgone [bold]x[/bold]"))
    assert capsys.readouterr().err == "error: \\x1b[2Jgone [bold]x[/bold]\n"


def test_a_lost_connection_says_how_to_go_on(capsys) -> None:
    lost = errors.ConnectionLostError("cut")
    lost.execution_id, lost.last_sequence = "01a1", 42
    ended(lost)
    assert "torana watch 01a1 --after 42" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_explained(capsys) -> None:
    ended(errors.UnavailableError("connection refused"))
    assert "torana serve" in capsys.readouterr().err


def test_a_defect_stays_loud() -> None:
    with pytest.raises(ZeroDivisionError), errors_reported():
        raise ZeroDivisionError
