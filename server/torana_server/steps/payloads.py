"""What a step hands out, as it is stored."""

from __future__ import annotations

from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import INLINE_VALUE_BYTES_MAX
from torana_server.core.values import Payload, encode, size_of

_UTF8_BYTES_PER_CHARACTER = 4


def to_payload(value: object, what: str) -> Payload:
    """Raises StepError: VALUE_NOT_STORABLE, or VALUE_TOO_LARGE above the inline limit. `what` names it in both."""
    try:
        payload = encode(value)
    except StepError as error:
        raise StepError(f"{what}: {error.message}", reason=error.reason, metadata=error.metadata) from error
    if not payload.types and len(payload.json) * _UTF8_BYTES_PER_CHARACTER <= INLINE_VALUE_BYTES_MAX:
        return payload
    size = size_of(payload)
    if size > INLINE_VALUE_BYTES_MAX:
        raise StepError(
            f"{what} is {size} bytes, above the limit of {INLINE_VALUE_BYTES_MAX}; store it elsewhere and hand on a "
            "reference, or split it",
            reason=Reason.VALUE_TOO_LARGE,
            metadata={"sizeBytes": str(size), "limitBytes": str(INLINE_VALUE_BYTES_MAX)},
        )
    return payload
