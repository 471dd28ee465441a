"""What the server answered when a call failed, as an error of `torana.errors`.

The details are a serialised `google.rpc.Status` in the trailing metadata `grpc-status-details-bin`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from torana import errors
from torana._native import to_native
from torana.v1 import execution_pb2

Detail = TypeVar("Detail", bound=Message)

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "torana"

_BY_REASON: Mapping[str, type[errors.ToranaError]] = {
    "INVALID_WORKFLOW": errors.InvalidWorkflowError,
    "WORKFLOW_NOT_FOUND": errors.WorkflowNotFoundError,
    "EXECUTION_NOT_FOUND": errors.ExecutionNotFoundError,
    "RESOURCE_NOT_FOUND": errors.ResourceNotFoundError,
    "SECRET_NOT_FOUND": errors.SecretNotFoundError,
    "STEP_TYPE_NOT_FOUND": errors.TypeNotFoundError,
    "RESOURCE_TYPE_NOT_FOUND": errors.TypeNotFoundError,
    "IDEMPOTENCY_CONFLICT": errors.IdempotencyConflictError,
    "RESOURCE_NOT_BOUND": errors.ResourceNotBoundError,
    "EXECUTION_FINISHED": errors.ExecutionFinishedError,
    "EXECUTION_NOT_FINISHED": errors.ExecutionNotFinishedError,
    "EVENTS_EXPIRED": errors.EventsExpiredError,
    "QUEUE_FULL": errors.QueueFullError,
}

_BY_CODE: Mapping[grpc.StatusCode, type[errors.ToranaError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.ConflictError,
    grpc.StatusCode.ABORTED: errors.ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.StateError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.UNIMPLEMENTED: errors.NotSupportedError,
}

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def error_from_call(call: Any) -> errors.ToranaError:
    """From a failed call of either kind: `grpc.RpcError` of a channel, or `grpc.aio.AioRpcError`."""
    status = _sent_status(call.trailing_metadata() or ())
    if status is None:
        status = status_pb2.Status(code=call.code().value[0], message=call.details() or call.code().name)
    return error_from_status(status)


def error_from_status(status: status_pb2.Status) -> errors.ToranaError:
    """From a status with its details. What has no reason of this domain falls back on the code."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    info = _detail(status, error_details_pb2.ErrorInfo)
    ours = info is not None and info.domain == DOMAIN
    reason = info.reason if info is not None and ours else ""
    error = _BY_REASON.get(reason, _BY_CODE.get(code, errors.InternalError))(
        status.message or code_pb2.Code.Name(code.value[0]),
        reason=reason,
        metadata=dict(info.metadata) if info is not None and ours else {},
        violations=_violations(status),
        code=code,
        request_id=_request_id(status),
        retry_after_s=_retry_after_s(status),
    )
    if isinstance(error, errors.EventsExpiredError):
        execution = _detail(status, execution_pb2.Execution)
        error.execution = to_native(execution) if execution is not None else None
    return error


def _sent_status(metadata: Iterable[tuple[str, str | bytes]]) -> status_pb2.Status | None:
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _detail(status: status_pb2.Status, kind: type[Detail]) -> Detail | None:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            detail = kind()
            packed.Unpack(detail)
            return detail
    return None


def _violations(status: status_pb2.Status) -> list[errors.Violation]:
    request = _detail(status, error_details_pb2.BadRequest)
    precondition = _detail(status, error_details_pb2.PreconditionFailure)
    found = [errors.Violation(item.field, item.description) for item in request.field_violations] if request else []
    if precondition is not None:
        found += [errors.Violation(item.subject, item.description) for item in precondition.violations]
    return found


def _request_id(status: status_pb2.Status) -> str:
    info = _detail(status, error_details_pb2.RequestInfo)
    return info.request_id if info is not None else ""


def _retry_after_s(status: status_pb2.Status) -> float | None:
    retry = _detail(status, error_details_pb2.RetryInfo)
    return retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None
