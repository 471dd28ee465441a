"""Errors become a message and an exit code."""

from __future__ import annotations

import grpc
import pytest
import typer

from torana import errors
from torana_server.cli.exits import UsageError, errors_reported, exit_of, unreachable
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


def test_what_the_message_tells_already_is_not_told_twice(capsys) -> None:
    told = errors.ExecutionFinishedError(
        "x is FAILED already", violations=[errors.Violation("x", "x is FAILED already")]
    )
    ended(told)
    assert capsys.readouterr().err == "error: x is FAILED already\n"


@pytest.mark.parametrize(
    ("said", "meaning", "advice"),
    [
        ("ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused", "refused", "torana serve"),
        ("errors resolving nohost:1: Domain name not found", "not known", "--address"),
        ("Tls handshake failed: OPENSSL_internal:WRONG_VERSION_NUMBER", "handshake", "without --tls"),
        ("Tls handshake failed: CERTIFICATE_VERIFY_FAILED: self-signed", "handshake", "--tls-ca"),
        ("last error: UNKNOWN: Socket closed", "closed at once", "--tls-cert"),
    ],
)
def test_a_failed_connection_is_told_without_the_words_of_grpc(said: str, meaning: str, advice: str) -> None:
    told = unreachable(said, "db:1")
    assert told.startswith("no server can be reached at db:1: ")
    assert meaning in told
    assert advice in told
    assert said not in told


def test_a_failure_of_another_kind_keeps_its_words() -> None:
    assert unreachable("the server ended the stream: DRAINING", "db:1").startswith("the server ended the stream")


def test_a_name_that_is_not_there_says_where_the_names_are(capsys) -> None:
    with pytest.raises(typer.Exit), errors_reported(" --address db:1"):
        raise errors.WorkflowNotFoundError("there is no workflow 'x'")
    assert "See `torana workflows list --address db:1`" in capsys.readouterr().err
