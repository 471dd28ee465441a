"""Errors of calls, by their reasons."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from torana import errors
from torana._status import _BY_REASON, DETAILS_KEY, error_from_call, error_from_status
from torana.v1 import error_reason_pb2, execution_pb2


def status(code: grpc.StatusCode, *packed: Message, message: str = "what to do") -> status_pb2.Status:
    found = status_pb2.Status(code=code.value[0], message=message)
    for detail in packed:
        found.details.add().Pack(detail)
    return found


def info(reason: str, domain: str = "torana", **metadata: str) -> details.ErrorInfo:
    return details.ErrorInfo(domain=domain, reason=reason, metadata=metadata)


class FailedCall:
    """A failed call as gRPC hands it out."""

    def __init__(self, code: grpc.StatusCode, text: str, trailers: tuple[tuple[str, str | bytes], ...] | None) -> None:
        self._answer = code, text, trailers

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        return self._answer[2]


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", errors.InvalidRequestError),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_WORKFLOW", errors.InvalidWorkflowError),
        (grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND", errors.WorkflowNotFoundError),
        (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND", errors.ExecutionNotFoundError),
        (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", errors.ResourceNotFoundError),
        (grpc.StatusCode.NOT_FOUND, "SECRET_NOT_FOUND", errors.SecretNotFoundError),
        (grpc.StatusCode.NOT_FOUND, "STEP_TYPE_NOT_FOUND", errors.TypeNotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT", errors.IdempotencyConflictError),
        (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_CONFLICT", errors.ConflictError),
        (grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_NOT_BOUND", errors.ResourceNotBoundError),
        (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_FINISHED", errors.ExecutionFinishedError),
        (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_NOT_FINISHED", errors.ExecutionNotFinishedError),
        (grpc.StatusCode.FAILED_PRECONDITION, "VAULT_SEALED", errors.StateError),
        (grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED", errors.EventsExpiredError),
        (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE", errors.InvalidRequestError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", errors.QueueFullError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", errors.ExhaustedError),
        (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE", errors.UnavailableError),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", errors.UnauthenticatedError),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", errors.PermissionDeniedError),
        (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED", errors.NotSupportedError),
        (grpc.StatusCode.DATA_LOSS, "SECRET_CORRUPT", errors.InternalError),
        (grpc.StatusCode.INTERNAL, "INTERNAL", errors.InternalError),
        (grpc.StatusCode.NOT_FOUND, "OF_A_NEWER_SERVER", errors.NotFoundError),
    ],
)
def test_a_reason_has_its_class(code: grpc.StatusCode, reason: str, expected: type[errors.ToranaError]) -> None:
    error = error_from_status(status(code, info(reason)))
    assert type(error) is expected
    assert (error.reason, error.code, error.message) == (reason, code, "what to do")


def test_the_reasons_tested_here_are_reasons_of_the_contract() -> None:
    assert {f"ERROR_REASON_{reason}" for reason in _BY_REASON} <= set(error_reason_pb2.ErrorReason.keys())


def test_an_error_carries_every_detail() -> None:
    violation = details.BadRequest.FieldViolation(field="request.workflow", description="must be set")
    retry = details.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    error = error_from_status(
        status(
            grpc.StatusCode.INVALID_ARGUMENT,
            info("INVALID_REQUEST", limit="3"),
            details.BadRequest(field_violations=[violation]),
            details.RequestInfo(request_id="r-1"),
            retry,
        )
    )
    assert error.metadata == {"limit": "3"}
    assert (error.request_id, error.retry_after_s) == ("r-1", 1.5)
    assert str(error) == "what to do [INVALID_REQUEST]\n  request.workflow: must be set"


def test_expired_events_leave_the_execution_as_it_ended() -> None:
    kept = execution_pb2.Execution(id="e", state=execution_pb2.EXECUTION_STATE_COMPLETED)
    error = error_from_status(status(grpc.StatusCode.OUT_OF_RANGE, info("EVENTS_EXPIRED"), kept))
    assert isinstance(error, errors.EventsExpiredError)
    assert error.execution is not None
    assert error.execution.state == "completed"


def test_a_reason_of_another_domain_is_not_taken() -> None:
    error = error_from_status(status(grpc.StatusCode.NOT_FOUND, info("WORKFLOW_NOT_FOUND", domain="proxy.example")))
    assert type(error) is errors.NotFoundError
    assert error.reason == ""


def test_a_call_carries_its_status_in_the_trailers() -> None:
    sent = status(grpc.StatusCode.NOT_FOUND, info("WORKFLOW_NOT_FOUND", workflow="etl")).SerializeToString()
    error = error_from_call(FailedCall(grpc.StatusCode.NOT_FOUND, "short", ((DETAILS_KEY, sent),)))
    assert isinstance(error, errors.WorkflowNotFoundError)
    assert isinstance(error, LookupError)
    assert error.metadata == {"workflow": "etl"}


@pytest.mark.parametrize("trailers", [None, (), (("x", "y"),), ((DETAILS_KEY, b"\xff\xff"),)])
def test_a_call_without_readable_details_falls_back_on_its_code(
    trailers: tuple[tuple[str, str | bytes], ...] | None,
) -> None:
    error = error_from_call(FailedCall(grpc.StatusCode.UNAVAILABLE, "connection refused", trailers))
    assert type(error) is errors.UnavailableError
    assert (error.message, error.reason, error.code) == ("connection refused", "", grpc.StatusCode.UNAVAILABLE)
