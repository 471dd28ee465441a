"""JSON values and the types JSON lacks.

The format of a payload: `json` is exact, compact JSON text. `types` maps JSON pointer patterns to the name of the type
that the JSON at that place stands for:

    datetime   RFC 3339; without an offset when the value has none
    date       YYYY-MM-DD
    time       HH:MM:SS[.ffffff][+HH:MM]
    timedelta  seconds as a decimal string, exact to the microsecond: "93784.000005", "-1.5"
    decimal    a decimal string
    uuid       a hyphenated string
    bytes      standard base64, padded
    tuple      an array
    set        an array, sorted by the canonical JSON of its elements

A pattern is an RFC 6901 pointer in which `*` stands for every element of an array; "" is the whole value. In the keys
of objects `~0` is `~`, `~1` is `/` and, beyond the RFC, `~2` is `*`. A pattern that meets null or nothing changes
nothing, so one pattern covers a column of dates of which some are null.

Dataclasses, mappings and database records become plain objects, enums of strings or numbers their value, and a set
whose elements hold objects a plain array, since nothing hashable can be read back from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from torana_server.core._from_json import invalid, read_trusted, restore, strict, tree
from torana_server.core._to_json import (
    TOO_DEEP,
    NotStorableError,
    convert,
    is_unicode,
    plain_text,
    type_name,
    write,
    write_sorted,
)
from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import VALUE_DEPTH_MAX


@dataclass(frozen=True, slots=True)
class Payload:
    """One value as it is stored and sent: exact JSON text, and the types JSON lacks beside it.

    `types` maps JSON pointer patterns (RFC 6901; `*` stands for every element of an array, "" is the whole value) to
    datetime, date, time, timedelta, decimal, uuid, bytes, tuple or set.
    """

    json: str
    types: Mapping[str, str] = field(default_factory=dict)


def encode(value: object) -> Payload:
    """The payload of a native value.

    Raises StepError (VALUE_NOT_STORABLE; metadata `path`, a JSON pointer, and `type`) for what has no form: unknown
    types, NaN and infinities, keys that are not strings, integers above 1,000 digits, too deep or circular nesting,
    and text that is not Unicode. Whether the value is too large is for the caller to judge, by `size_of`.
    """
    text = plain_text(value)
    if text is not None:
        return Payload(text)
    try:
        plain, types = convert(value, 0)
        return Payload(write(plain), types)
    except NotStorableError as refused:
        where = f"the value at {_shortened(refused.pointer)!r}" if refused.path else "the value"
        raise StepError(
            f"{where} cannot be stored: it {refused.problem}",
            reason=Reason.VALUE_NOT_STORABLE,
            metadata={"path": _shortened(refused.pointer), "type": refused.kind},
        ) from refused.__cause__
    except RuntimeError as error:
        raise StepError(
            f"the value cannot be stored: {error}; something still changes it",
            reason=Reason.VALUE_NOT_STORABLE,
            metadata={"path": "", "type": type_name(value)},
        ) from error


def size_of(payload: Payload) -> int:
    """Bytes of the JSON text and of the types, as UTF-8."""
    return _bytes_in(payload.json) + sum(_bytes_in(pattern) + len(kind) for pattern, kind in payload.types.items())


def canonical(value: object) -> str:
    """The one text of a JSON value, for hashing: sorted keys, no spaces."""
    return write_sorted(value)


def _bytes_in(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _shortened(pointer: str) -> str:
    return pointer if len(pointer) <= 200 else f"{pointer[:200]}…"


def decode(payload: Payload) -> object:
    """The native value, fresh at each call.

    Raises InvalidRequestError for a payload that `encode` or `checked` would not have made.
    """
    value = decode_plain(payload)
    return restore(value, tree(payload.types), ()) if payload.types else value


def decode_plain(payload: Payload) -> object:
    """The value as clients without the types see it: JSON only."""
    text = payload.json.strip(" \t\r\n")
    try:
        value: object
        value, end = read_trusted(text)
        if end < len(text):
            raise json.JSONDecodeError("extra data", text, end)
    except (json.JSONDecodeError, RecursionError) as error:
        raise invalid(f"not JSON: {error}") from error
    return value


def parse(text: str) -> object:
    """The value of JSON text from outside, refusing all that this server could not give back exactly.

    Raises InvalidRequestError for text that is not JSON (RFC 8259), repeated keys, NaN, infinities and numbers beyond
    the range of a double, integers above 1,000 digits, nesting above 100 levels and halves of surrogate pairs.
    """
    try:
        value: object = strict.decode(text)
    except json.JSONDecodeError as error:
        raise invalid(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise invalid(f"the value {TOO_DEEP}") from error
    if "\\u" in text or text.count("[") + text.count("{") > VALUE_DEPTH_MAX or not is_unicode(text):
        _check(value)
    return value


def checked(text: str, types: Mapping[str, str] | None = None) -> Payload:
    """A payload from outside, text and types as they came. Raises InvalidRequestError as `parse` and `decode` do."""
    value = parse(text)
    if types:
        restore(value, tree(types), ())
    return Payload(text, dict(types or {}))


def _check(value: object) -> None:
    try:
        convert(value, 0)
    except NotStorableError as refused:
        raise invalid(f"the value {refused.problem}", _shortened(refused.pointer)) from None
