"""Native values to and from `torana.v1.Payload`.

The format: `json` is exact JSON text, and `types` maps JSON pointer patterns (RFC 6901, "" is the whole value, `*`
stands for every element of an array) to the name of a type that JSON lacks. What the JSON holds for each:

    datetime   RFC 3339; without an offset when the value has none
    date       YYYY-MM-DD
    time       HH:MM:SS[.ffffff][+HH:MM]
    timedelta  seconds as a decimal string, "93784.000005"
    decimal    a decimal string
    uuid       a hyphenated string
    bytes      standard base64, padded
    tuple      an array
    set        an array, sorted by the JSON text of its elements

A pattern that meets null, nothing, or a value that does not read as its type leaves the JSON as it is; so does a type
name this version does not know.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from torana._struct import utf8_text, value_to_native
from torana._types import BlobReference
from torana.errors import InvalidRequestError, Violation
from torana.v1 import payload_pb2

DEPTH_MAX = 100
"""Nesting of arrays and objects."""
INTEGER_LIMIT = 10**1000
"""Integers have at most 1,000 digits."""

Types = dict[tuple[str, ...], str]
"""Pointer patterns, split into tokens, to type names."""


def encode(value: object, name: str) -> payload_pb2.Payload:
    """Raises InvalidRequestError with the path (`name` and a pointer) of what has no JSON form."""
    plain, types = _encode(value, name, 0)
    return payload_pb2.Payload(json=_dumps(plain), types={_join(path): kind for path, kind in types.items()})


def encode_object(value: Mapping[str, object], name: str) -> payload_pb2.Payload:
    """As `encode`, for fields that must hold a JSON object."""
    if not isinstance(value, Mapping):
        raise _refused(name, f"must be a mapping of names to values, not {type(value).__name__}")
    return encode(value, name)


def decode(payload: payload_pb2.Payload) -> Any:
    """The native value; a BlobReference for one held out of line; None when there is no value."""
    content = payload.WhichOneof("content")
    if content == "blob":
        return BlobReference(sha256=payload.blob.sha256, size_bytes=payload.blob.size_bytes)
    if content is None:
        return None
    plain = json.loads(payload.json) if content == "json" else value_to_native(payload.value)
    # The deepest first: a set is built from finished elements, and a tuple cannot be changed any more.
    for pattern in sorted(payload.types, key=lambda text: text.count("/"), reverse=True):
        plain = _apply(plain, _split(pattern), payload.types[pattern])
    return plain


# encoding


def _encode(value: object, path: str, depth: int) -> tuple[object, Types]:
    if depth > DEPTH_MAX:
        raise _refused(path, f"is nested deeper than {DEPTH_MAX} levels, or contains itself")
    match value:
        case None | bool():
            return value, {}
        case str():
            return utf8_text(value, path), {}
        case int():
            return _integer(int(value), path), {}
        case float():
            return _float(value, path), {}
        case Mapping():
            return _encode_object(value, path, depth)
        case list():
            return _encode_array(list(value), path, depth)
        case tuple():
            plain, types = _encode_array(list(value), path, depth)
            return plain, {(): "tuple", **types}
        case set() | frozenset():
            return _encode_set(value, path, depth)
        case _:
            return _encode_scalar(value, path)


def _encode_scalar(value: object, path: str) -> tuple[object, Types]:
    match value:
        case datetime():
            return value.isoformat(), {(): "datetime"}
        case date():
            return value.isoformat(), {(): "date"}
        case time():
            return value.isoformat(), {(): "time"}
        case timedelta():
            return _seconds(value), {(): "timedelta"}
        case Decimal():
            if not value.is_finite():
                raise _refused(path, f"{value} is not a finite number, and JSON has only those")
            return str(value), {(): "decimal"}
        case UUID():
            return str(value), {(): "uuid"}
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii"), {(): "bytes"}
        case _:
            raise _refused(path, f"a {type(value).__name__} has no JSON form; send a plain value instead")


def _integer(value: int, path: str) -> int:
    if not -INTEGER_LIMIT < value < INTEGER_LIMIT:
        raise _refused(path, "the integer has more than 1,000 digits")
    return value


def _float(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise _refused(path, f"{value} is not a finite number, and JSON has only those")
    return value


def _encode_object(value: Mapping[Any, object], path: str, depth: int) -> tuple[object, Types]:
    plain: dict[str, object] = {}
    types: Types = {}
    for key, member in value.items():
        if not isinstance(key, str):
            raise _refused(path, f"the key {key!r} is not a string, and JSON has only those")
        utf8_text(key, path)
        plain[key], inner = _encode(member, f"{path}/{_escape(key)}", depth + 1)
        types |= {(key, *rest): kind for rest, kind in inner.items()}
    return plain, types


def _encode_array(items: list[object], path: str, depth: int) -> tuple[object, Types]:
    encoded = [_encode(item, f"{path}/{index}", depth + 1) for index, item in enumerate(items)]
    return [plain for plain, _ in encoded], _element_types(encoded)


def _encode_set(items: set[Any] | frozenset[Any], path: str, depth: int) -> tuple[object, Types]:
    encoded = [_encode(item, f"{path}/{index}", depth + 1) for index, item in enumerate(items)]
    encoded.sort(key=lambda pair: _dumps(pair[0]))
    return [plain for plain, _ in encoded], {(): "set", **_element_types(encoded)}


def _element_types(encoded: list[tuple[object, Types]]) -> Types:
    """One `*` pattern where all elements agree (a null agrees with everything), else one pattern an element."""
    types: Types = {}
    patterns = dict.fromkeys(pattern for _, inner in encoded for pattern in inner)
    for pattern in patterns:
        kinds = {index: inner[pattern] for index, (_, inner) in enumerate(encoded) if pattern in inner}
        shared = len(set(kinds.values())) == 1
        if shared and all(index in kinds or _is_empty(plain, pattern) for index, (plain, _) in enumerate(encoded)):
            types["*", *pattern] = next(iter(kinds.values()))
        else:
            types |= {(str(index), *pattern): kind for index, kind in kinds.items()}
    return types


def _is_empty(plain: object, pattern: tuple[str, ...]) -> bool:
    """Whether the pattern meets nothing but null there, so that applying it changes nothing."""
    if not pattern or plain is None:
        return plain is None
    head, *rest = pattern
    if isinstance(plain, dict):
        return head not in plain or _is_empty(plain[head], tuple(rest))
    if isinstance(plain, list):
        return all(_is_empty(plain[index], tuple(rest)) for index in _indexes(plain, head))
    return True


def _seconds(value: timedelta) -> str:
    micros = value // timedelta(microseconds=1)
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    whole, fraction = divmod(micros, 1_000_000)
    return f"{sign}{whole}.{fraction:06}" if fraction else f"{sign}{whole}"


def _dumps(plain: object) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _refused(path: str, message: str) -> InvalidRequestError:
    violation = Violation(path, message)
    return InvalidRequestError("the value cannot be sent", reason="INVALID_REQUEST", violations=[violation])


# decoding


def _apply(plain: Any, tokens: tuple[str, ...], kind: str) -> Any:
    if not tokens:
        return _typed(plain, kind)
    head, rest = tokens[0], tokens[1:]
    if isinstance(plain, dict):
        if head in plain:
            plain[head] = _apply(plain[head], rest, kind)
    elif isinstance(plain, list):
        for index in _indexes(plain, head):
            plain[index] = _apply(plain[index], rest, kind)
    return plain


def _typed(plain: Any, kind: str) -> Any:
    readers = _FROM_TEXT if isinstance(plain, str) else _FROM_ARRAY if isinstance(plain, list) else {}
    reader = readers.get(kind)
    if reader is None:
        return plain
    try:
        return reader(plain)
    except (ValueError, TypeError, OverflowError, InvalidOperation):
        return plain


def _indexes(items: list[Any], token: str) -> range:
    if token == "*":  # noqa: S105 — a token of a path
        return range(len(items))
    if token.isascii() and token.isdigit() and int(token) < len(items):
        return range(int(token), int(token) + 1)
    return range(0)


def _timedelta(text: str) -> timedelta:
    return timedelta(microseconds=int(Decimal(text) * 1_000_000))


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _set(items: list[Any]) -> set[Any]:
    return {_hashable(item) for item in items}


def _hashable(value: Any) -> Any:
    """An element of a set: a set within a set can only have been a frozen one."""
    if isinstance(value, tuple):
        return tuple(_hashable(item) for item in value)
    return frozenset(value) if isinstance(value, set) else value


_FROM_TEXT: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": _timedelta,
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": _bytes,
}
_FROM_ARRAY: Mapping[str, Callable[[Any], Any]] = {"tuple": tuple, "set": _set}


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _join(tokens: tuple[str, ...]) -> str:
    return "".join(f"/{_escape(token)}" for token in tokens)


def _split(pattern: str) -> tuple[str, ...]:
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pattern.split("/")[1:])
