"""Errors as `google.rpc.Status`: the only place that knows which status code a reason has.

What is not a `ToranaError` is a defect: the caller learns that and the request id, the log learns the rest.
The details travel in the trailer `grpc-status-details-bin`, and HTTP/2 implementations refuse trailers above 8 KiB, in
which binary values are base64 and messages percent-encoded. Hence the bounds on each part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from torana_server.adapters.wire.messages import duration
from torana_server.core.errors import Reason, ToranaError, Violation

DOMAIN: Final = "torana"
DETAILS_KEY: Final = "grpc-status-details-bin"
REQUEST_ID_KEY: Final = "x-request-id"

DETAILS_BYTES_MAX: Final = 4_000
"""Of a serialised status; 5,333 in base64."""
MESSAGE_BYTES_MAX: Final = 1_000
"""Of a status' message, percent-encoded at worst three times as long, and once more inside the details."""
ATTACHMENT_BYTES_MAX: Final = 1_500
"""Of a message that goes with an error, such as the execution whose events have expired."""
METADATA_CHARS_MAX: Final = 200
METADATA_ENTRIES_MAX: Final = 8
RETRY_AFTER_S: Final = 1.0
"""For reasons that always carry RetryInfo, when the error does not know better."""

_Code = grpc.StatusCode

CODES: Final[Mapping[Reason, grpc.StatusCode]] = {
    Reason.INVALID_REQUEST: _Code.INVALID_ARGUMENT,
    Reason.INVALID_WORKFLOW: _Code.INVALID_ARGUMENT,
    Reason.INVALID_PAGE_TOKEN: _Code.INVALID_ARGUMENT,
    Reason.INVALID_FILTER: _Code.INVALID_ARGUMENT,
    Reason.NOT_SUPPORTED: _Code.UNIMPLEMENTED,
    Reason.WORKFLOW_NOT_FOUND: _Code.NOT_FOUND,
    Reason.EXECUTION_NOT_FOUND: _Code.NOT_FOUND,
    Reason.RESOURCE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.SECRET_NOT_FOUND: _Code.NOT_FOUND,
    Reason.STEP_TYPE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.RESOURCE_TYPE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.IDEMPOTENCY_CONFLICT: _Code.ALREADY_EXISTS,
    Reason.RESOURCE_CONFLICT: _Code.ALREADY_EXISTS,
    Reason.RESOURCE_NOT_BOUND: _Code.FAILED_PRECONDITION,
    Reason.EXECUTION_FINISHED: _Code.FAILED_PRECONDITION,
    Reason.EXECUTION_NOT_FINISHED: _Code.FAILED_PRECONDITION,
    Reason.EVENTS_EXPIRED: _Code.OUT_OF_RANGE,
    Reason.SEQUENCE_OUT_OF_RANGE: _Code.OUT_OF_RANGE,
    Reason.QUEUE_FULL: _Code.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_STREAMS: _Code.RESOURCE_EXHAUSTED,
    Reason.JOURNAL_UNAVAILABLE: _Code.UNAVAILABLE,
    Reason.JOURNAL_IN_USE: _Code.FAILED_PRECONDITION,
    Reason.SERVER_DRAINING: _Code.UNAVAILABLE,
    Reason.INPUT_NOT_FOUND: _Code.INVALID_ARGUMENT,
    Reason.VALUE_TOO_LARGE: _Code.INVALID_ARGUMENT,
    Reason.VALUE_NOT_STORABLE: _Code.INVALID_ARGUMENT,
    Reason.TOO_MANY_EVENTS: _Code.FAILED_PRECONDITION,
    Reason.TEMPLATE_ERROR: _Code.INVALID_ARGUMENT,
    Reason.STEP_FAILED: _Code.FAILED_PRECONDITION,
    Reason.STEP_TIMEOUT: _Code.FAILED_PRECONDITION,
    Reason.STEP_INTERRUPTED: _Code.FAILED_PRECONDITION,
    Reason.EXECUTION_TIMEOUT: _Code.FAILED_PRECONDITION,
    Reason.QUEUE_TIMEOUT: _Code.FAILED_PRECONDITION,
    Reason.RESOURCE_NOT_DECLARED: _Code.FAILED_PRECONDITION,
    Reason.RESOURCE_UNAVAILABLE: _Code.FAILED_PRECONDITION,
    Reason.RESOURCE_POOL_EXHAUSTED: _Code.RESOURCE_EXHAUSTED,
    Reason.CREDENTIALS_NOT_FOUND: _Code.FAILED_PRECONDITION,
    Reason.UNAUTHENTICATED: _Code.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED: _Code.PERMISSION_DENIED,
    Reason.VAULT_SEALED: _Code.FAILED_PRECONDITION,
    Reason.SECRET_CORRUPT: _Code.DATA_LOSS,
    Reason.INTERNAL: _Code.INTERNAL,
}

_RETRIED: Final = frozenset(
    {Reason.QUEUE_FULL, Reason.TOO_MANY_STREAMS, Reason.JOURNAL_UNAVAILABLE, Reason.SERVER_DRAINING}
)

# What is missing: its type, and the key of the error's metadata that holds its name.
_MISSING: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.WORKFLOW_NOT_FOUND: ("torana.v1.Workflow", "workflow"),
    Reason.EXECUTION_NOT_FOUND: ("torana.v1.Execution", "execution"),
    Reason.RESOURCE_NOT_FOUND: ("torana.v1.Resource", "resource"),
    Reason.SECRET_NOT_FOUND: ("torana.v1.Secret", "secret"),
    Reason.STEP_TYPE_NOT_FOUND: ("torana.v1.StepType", "stepType"),
    Reason.RESOURCE_TYPE_NOT_FOUND: ("torana.v1.ResourceType", "resourceType"),
}


def is_defect(error: Exception) -> bool:
    """Whether the server is at fault in a way that nobody foresaw."""
    return not isinstance(error, ToranaError) or error.reason is Reason.INTERNAL


def reason_of(error: Exception) -> Reason:
    return error.reason if isinstance(error, ToranaError) else Reason.INTERNAL


def code_of(error: Exception) -> grpc.StatusCode:
    return CODES[reason_of(error)]


def to_status(error: Exception, request_id: str, attached: Sequence[Message] = ()) -> status_pb2.Status:
    """The status of an error. `attached` are messages for its details; those above their bound are left out."""
    if is_defect(error):
        error = ToranaError(
            "internal error; the request id of this answer finds it in the server's log", reason=Reason.INTERNAL
        )
    assert isinstance(error, ToranaError)
    code = CODES[error.reason]
    status = status_pb2.Status(code=code.value[0], message=cut(error.message, MESSAGE_BYTES_MAX))
    for detail in _details(error, request_id):
        status.details.append(_packed(detail))
    for message in attached:
        if message.ByteSize() <= ATTACHMENT_BYTES_MAX:
            status.details.append(_packed(message))
    violations = error.violations or _implied_violations(error, code)
    if violations:
        room = DETAILS_BYTES_MAX - status.ByteSize()
        status.details.append(_packed(_violated(error.reason, code, violations, room)))
    return status


def trailers(status: status_pb2.Status, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    return (DETAILS_KEY, status.SerializeToString()), (REQUEST_ID_KEY, request_id)


def _details(error: ToranaError, request_id: str) -> Iterator[Message]:
    entries = list(error.metadata.items())[:METADATA_ENTRIES_MAX]
    metadata = {key[:64]: cut(value, METADATA_CHARS_MAX) for key, value in entries}
    yield error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=metadata)
    yield error_details_pb2.RequestInfo(request_id=request_id)
    retry_after_s = RETRY_AFTER_S if error.reason in _RETRIED else None
    if error.retry_after_s is not None:
        retry_after_s = error.retry_after_s
    if retry_after_s is not None:
        yield error_details_pb2.RetryInfo(retry_delay=duration(retry_after_s))
    if error.reason in _MISSING:
        kind, key = _MISSING[error.reason]
        yield error_details_pb2.ResourceInfo(resource_type=kind, resource_name=metadata.get(key, ""))


def _implied_violations(error: ToranaError, code: grpc.StatusCode) -> Sequence[Violation]:
    """A precondition that failed is always spelled out, with what it is about."""
    if code is not _Code.FAILED_PRECONDITION:
        return ()
    subject = next(iter(error.metadata.values()), "")
    return (Violation(subject, error.message),)


def _violated(reason: Reason, code: grpc.StatusCode, violations: Sequence[Violation], room_bytes: int) -> Message:
    taken = _that_fit(violations, room_bytes - len(reason.value) - 60)
    if code is _Code.FAILED_PRECONDITION:
        precondition = error_details_pb2.PreconditionFailure()
        for one in taken:
            precondition.violations.add(type=reason.value, subject=one.path, description=one.message)
        failed: Message = precondition
        return failed
    bad_request: Message = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=one.path, description=one.message) for one in taken
        ]
    )
    return bad_request


def _that_fit(violations: Sequence[Violation], room_bytes: int) -> list[Violation]:
    """As many as there is room for; if that is not all, the last says how many more there are."""
    taken: list[Violation] = []
    room_bytes -= 60  # for the sentence below
    for violation in violations:
        one = Violation(cut(violation.path, 200), cut(violation.message, 500))
        room_bytes -= len(one.path.encode()) + len(one.message.encode()) + 40
        if room_bytes < 0:
            return [*taken, Violation("", f"and {len(violations) - len(taken)} more; correct these first")]
        taken.append(one)
    return taken


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def cut(text: str, bytes_max: int) -> str:
    """At most so many bytes of UTF-8, with an ellipsis for what was left out."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - 3].decode("utf-8", "ignore") + "…"
