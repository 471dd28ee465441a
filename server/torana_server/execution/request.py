"""What a caller asks for, as the engine takes it and the journal keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torana_server.core.errors import InvalidRequestError, Reason, Violation
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.core.limits import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    INLINE_VALUE_BYTES_MAX,
    LABEL_VALUE_CHARS_MAX,
    LABELS_MAX,
    RESOURCES_PER_REQUEST_MAX,
)
from torana_server.core.values import Payload, canonical, checked, decode, parse
from torana_server.execution.text import is_storable
from torana_server.resources import Binding, SharedName

EMPTY_OBJECT = Payload("{}")
TIMEOUT_S_MAX = 100 * 366 * 86_400.0
"""100 years: keeps every deadline a representable time."""
NOT_UNICODE = "holds half of a surrogate pair, which no Unicode text has"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """`parameters` and `context` are JSON objects. Times are in seconds; None means none asked for."""

    workflow: str
    revision: str = ""
    parameters: Payload = EMPTY_OBJECT
    context: Payload = EMPTY_OBJECT
    resources: Mapping[str, Binding] = field(default_factory=dict)
    idempotency_key: str = ""
    timeout_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""
    cancel_on_disconnect: bool = False
    disconnect_grace_s: float = 30.0


def check_request(request: ExecutionRequest) -> None:
    """Raises InvalidRequestError with everything that is wrong with the request by itself."""
    violations = list(_violations(request))
    if violations:
        too_large = all("bytes" in violation.message for violation in violations)
        raise InvalidRequestError(
            "the request is not valid",
            reason=Reason.VALUE_TOO_LARGE if too_large else Reason.INVALID_REQUEST,
            violations=violations,
        )


def _violations(request: ExecutionRequest) -> Iterator[Violation]:
    if not is_name(request.workflow):
        yield Violation("request.workflow", f"name a registered workflow: {NAME_RULE}")
    yield from _check_object("request.parameters", request.parameters)
    yield from _check_object("request.context", request.context)
    yield from _check_labels(request.labels)
    yield from _check_texts(request)
    if len(request.resources) > RESOURCES_PER_REQUEST_MAX:
        yield Violation("request.resources", f"bind at most {RESOURCES_PER_REQUEST_MAX} resources")
    for name in request.resources:
        if not is_name(name):
            yield Violation(f"request.resources[{name[:200]!r}]", f"a resource's name is {NAME_RULE}")
    if request.timeout_s is not None and not 0 < request.timeout_s <= TIMEOUT_S_MAX:
        yield Violation("request.timeout", "more than 0 s, up to 100 years; leave it out for none")
    if not 0 <= request.disconnect_grace_s <= 86_400:
        yield Violation("request.disconnect_grace", "between 0 s and one day")


def _check_texts(request: ExecutionRequest) -> Iterator[Violation]:
    for name in ("revision", "idempotency_key", "session_id"):
        value = getattr(request, name)
        if len(value) > IDEMPOTENCY_KEY_CHARS_MAX:
            yield Violation(f"request.{name}", f"at most {IDEMPOTENCY_KEY_CHARS_MAX} characters")
        if not is_storable(value):
            yield Violation(f"request.{name}", NOT_UNICODE)


def _check_object(path: str, payload: Payload) -> Iterator[Violation]:
    if payload is EMPTY_OBJECT:
        return
    size = len(payload.json.encode(errors="surrogatepass")) + sum(map(len, payload.types))
    if size > INLINE_VALUE_BYTES_MAX:
        yield Violation(path, f"{size} bytes are above the limit of {INLINE_VALUE_BYTES_MAX}; pass a reference")
        return
    try:
        value = decode(checked(payload.json, payload.types)) if payload.types else parse(payload.json)
    except ValueError as error:
        yield Violation(path, str(error))
        return
    if not isinstance(value, dict):
        yield Violation(path, f"must be a JSON object, not {type(value).__name__}")


def _check_labels(labels: Mapping[str, str]) -> Iterator[Violation]:
    if len(labels) > LABELS_MAX:
        yield Violation("request.labels", f"at most {LABELS_MAX} labels")
    for key, value in labels.items():
        if not is_name(key):
            yield Violation(f"request.labels[{key[:200]!r}]", f"a label's key is {NAME_RULE}")
        if len(value) > LABEL_VALUE_CHARS_MAX:
            yield Violation(f"request.labels[{key[:200]!r}]", f"at most {LABEL_VALUE_CHARS_MAX} characters")
        if not is_storable(value):
            yield Violation(f"request.labels[{key[:200]!r}]", NOT_UNICODE)


def request_hash(request: ExecutionRequest, retry_of: str = "") -> bytes:
    """SHA-256 of what makes two requests the same: workflow, revision as written, parameters, resources, context;
    and, for a retry, what it is a retry of.

    Raises InvalidRequestError for a reference that is not JSON.
    """
    resources = {name: _binding_fields(binding) for name, binding in request.resources.items()}
    same = {
        "workflow": request.workflow,
        "revision": request.revision,
        "parameters": [parse(request.parameters.json), dict(request.parameters.types)],
        "context": [parse(request.context.json), dict(request.context.types)],
        "resources": resources,
    }
    if retry_of:
        same["retry_of"] = retry_of
    try:
        return hashlib.sha256(canonical(same).encode()).digest()
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            "the request is not valid", violations=[Violation("request.resources", f"not JSON: {error}")]
        ) from error


def _binding_fields(binding: Binding) -> object:
    if isinstance(binding, SharedName):
        return f"@{binding.name}"
    return [
        binding.type,
        dict(binding.config),
        binding.credentials_ref,
        binding.credentials_key,
        binding.register_as,
        binding.health_check_interval_s,
    ]
