"""What a failed call says, read from the details of its status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from torana.v1 import execution_pb2


@dataclass(frozen=True, slots=True)
class Problem:
    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    retry_after_s: float | None = None
    request_id: str = ""
    resource: tuple[str, str] | None = None
    execution: execution_pb2.Execution | None = None
    trailers: dict[str, Any] = field(default_factory=dict)


async def problem_of(call: Any) -> Problem:
    """The problem of a call that must fail, of either kind."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await _finish(call)
    return problem_in(failed.value)


async def _finish(call: Any) -> None:
    if not hasattr(call, "__aiter__"):
        await call
        return
    async for _ in call:
        pass


def problem_in(error: grpc.aio.AioRpcError) -> Problem:
    trailers = dict(error.trailing_metadata() or ())
    details = trailers.get("grpc-status-details-bin")
    if not isinstance(details, bytes):
        return Problem(error.code(), error.details() or "", "", trailers=trailers)
    return problem_in_status(status_pb2.Status.FromString(details), error.code(), trailers)


def problem_in_status(status: Any, code: grpc.StatusCode, trailers: dict[str, Any]) -> Problem:
    assert status.code == code.value[0]
    assert status.ByteSize() < 8 * 1024
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in (*_DETAILS, execution_pb2.Execution):
            if packed.Is(kind.DESCRIPTOR):
                found[kind.DESCRIPTOR.name] = kind.FromString(packed.value)
    info = found["ErrorInfo"]
    assert info.domain == "torana"
    violations = found.get("BadRequest", error_details_pb2.BadRequest()).field_violations
    conditions = found.get("PreconditionFailure", error_details_pb2.PreconditionFailure()).violations
    missing = found.get("ResourceInfo")
    retry = found.get("RetryInfo")
    return Problem(
        code,
        status.message,
        info.reason,
        dict(info.metadata),
        [violation.field for violation in violations],
        [violation.description for violation in violations],
        [violation.subject for violation in conditions],
        retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        found["RequestInfo"].request_id,
        (missing.resource_type, missing.resource_name) if missing else None,
        found.get("Execution"),
        trailers,
    )


_DETAILS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.RetryInfo,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RequestInfo,
)
