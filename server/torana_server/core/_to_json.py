"""Native values to JSON values and the types found in them; the forms are stated in `values.py`."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import singledispatch
from typing import Any
from uuid import UUID

from torana_server.core._patterns import escape, members, pointer_of, split
from torana_server.core.limits import INTEGER_DIGITS_MAX, VALUE_DEPTH_MAX

_INTEGER_LIMIT = 10**INTEGER_DIGITS_MAX
TOO_DEEP = f"is nested deeper than {VALUE_DEPTH_MAX} levels, or contains itself"
_LONE_SURROGATE = "holds half of a surrogate pair, which UTF-8 cannot carry"
LONG_INTEGER = f"is an integer of more than {INTEGER_DIGITS_MAX} digits"

# check_circular is off because every value is known to be of bounded depth before it is written.
write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode
write_sorted = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True).encode


def type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def plain_text(value: object) -> str | None:
    """The JSON text of a value that JSON has already; None for one that needs the long way, or has no form at all."""
    try:
        if not _is_plain(value, 0):
            return None
        text = write(value)
    except (ValueError, RuntimeError):
        # NaN, or an object that changes meanwhile: the long way says which and where.
        return None
    return text if text.isascii() or is_unicode(text) else None


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None or kind is float:
        return True
    if kind is int:
        return bool(-_INTEGER_LIMIT < value < _INTEGER_LIMIT)
    if depth == VALUE_DEPTH_MAX:
        return False
    depth += 1
    if kind is dict:
        for key, member in value.items():
            if type(key) is not str or not (type(member) is str or _is_plain(member, depth)):
                return False
        return True
    return kind is list and all(_is_plain(element, depth) for element in value)


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


Types = dict[str, str]
"""Patterns relative to the value they are found in."""

_NO_TYPES: Types = {}


class NotStorableError(Exception):
    """What is wrong with a value. `path` grows from the inside out while the exception passes its containers."""

    def __init__(self, problem: str, value: object) -> None:
        super().__init__(problem)
        self.problem = problem
        self.kind = type_name(value)
        self.path: list[str] = []

    @property
    def pointer(self) -> str:
        return pointer_of(reversed(self.path))


@singledispatch
def convert(value: object, depth: int) -> tuple[object, Types]:
    """The JSON form of a value and the types found in it. `depth` counts the containers around it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = _read(
            value, lambda: [(member.name, getattr(value, member.name)) for member in dataclasses.fields(value)]
        )
        return _object(value, members, depth)
    record: Any = value
    if hasattr(type(value), "keys") and hasattr(type(value), "__getitem__"):
        return _object(value, _read(value, lambda: [(key, record[key]) for key in record.keys()]), depth)  # noqa: SIM118 — iterating a record gives its values
    if inspect.isawaitable(value):
        raise NotStorableError(f"is of type {type_name(value)}: an 'await' before it is missing", value)
    raise NotStorableError(f"is of type {type_name(value)}, which has no JSON form; use plain values instead", value)


def _read(value: object, members: Callable[[], list[tuple[object, object]]]) -> list[tuple[object, object]]:
    try:
        return members()
    except Exception as error:  # the record's own code runs here and may raise anything
        raise NotStorableError(f"could not be read: {type(error).__name__}: {error}", value) from error


@convert.register
def _(value: Mapping, depth: int) -> tuple[object, Types]:  # type: ignore[type-arg]  # singledispatch needs the bare class
    return _object(value, _read(value, lambda: list(value.items())), depth)


@convert.register
def _(value: dict, depth: int) -> tuple[object, Types]:  # type: ignore[type-arg]  # as above
    return _object(value, value.items(), depth)


@convert.register
def _(value: None, depth: int) -> tuple[object, Types]:
    return None, _NO_TYPES


@convert.register
def _(value: bool, depth: int) -> tuple[object, Types]:
    return value, _NO_TYPES


@convert.register
def _(value: int, depth: int) -> tuple[object, Types]:
    if not -_INTEGER_LIMIT < value < _INTEGER_LIMIT:
        raise NotStorableError(LONG_INTEGER, value)
    return int(value), _NO_TYPES


@convert.register
def _(value: float, depth: int) -> tuple[object, Types]:
    if not math.isfinite(value):
        raise NotStorableError(
            f"is {float(value)}, and JSON has finite numbers only; use None or a string instead", value
        )
    return float(value), _NO_TYPES


@convert.register
def _(value: str, depth: int) -> tuple[object, Types]:
    return _text(value), _NO_TYPES


@convert.register
def _(value: datetime, depth: int) -> tuple[object, Types]:
    return value.isoformat(), {"": "datetime"}


@convert.register
def _(value: date, depth: int) -> tuple[object, Types]:
    return value.isoformat(), {"": "date"}


@convert.register
def _(value: time, depth: int) -> tuple[object, Types]:
    return value.isoformat(), {"": "time"}


@convert.register
def _(value: timedelta, depth: int) -> tuple[object, Types]:
    micros = value // timedelta(microseconds=1)
    whole, fraction = divmod(abs(micros), 1_000_000)
    text = f"{'-' if micros < 0 else ''}{whole}"
    return (f"{text}.{fraction:06}".rstrip("0") if fraction else text), {"": "timedelta"}


@convert.register
def _(value: Decimal, depth: int) -> tuple[object, Types]:
    if not value.is_finite():
        raise NotStorableError(f"is Decimal({str(value)!r}), and only finite numbers can be stored", value)
    return str(value), {"": "decimal"}


@convert.register
def _(value: UUID, depth: int) -> tuple[object, Types]:
    return str(value), {"": "uuid"}


@convert.register
def _(value: bytes, depth: int) -> tuple[object, Types]:
    return base64.b64encode(value).decode("ascii"), {"": "bytes"}


@convert.register
def _(value: list, depth: int) -> tuple[object, Types]:  # type: ignore[type-arg]  # as above
    elements = _elements(value, value, depth)
    return [plain for plain, _ in elements], _element_types(elements)


@convert.register
def _(value: tuple, depth: int) -> tuple[object, Types]:  # type: ignore[type-arg]  # as above
    elements = _elements(value, value, depth)
    return [plain for plain, _ in elements], {"": "tuple", **_element_types(elements)}


@convert.register(set)
@convert.register(frozenset)
def _(value: set[Any] | frozenset[Any], depth: int) -> tuple[object, Types]:
    elements = _elements(value, value, depth)
    elements.sort(key=lambda element: (write_sorted(element[0]), sorted(element[1].items())))
    plain = [member for member, _ in elements]
    own = {} if any(map(_holds_object, plain)) else {"": "set"}
    return plain, own | _element_types(elements)


def _text(value: str) -> str:
    text = str.__str__(value)
    if not text.isascii() and not is_unicode(text):
        raise NotStorableError(_LONE_SURROGATE, value)
    return text


def _object(value: object, members: Iterable[tuple[object, object]], depth: int) -> tuple[object, Types]:
    if depth == VALUE_DEPTH_MAX:
        raise NotStorableError(TOO_DEEP, value)
    plain: dict[str, object] = {}
    types: Types = {}
    for key, member in members:
        if not isinstance(key, str):
            raise NotStorableError(f"has the key {key!r:.80} of type {type_name(key)}; keys must be strings", value)
        name = _text(key)
        try:
            plain[name], found = convert(member, depth + 1)
        except NotStorableError as refused:
            refused.path.append(name)
            raise
        if found:
            prefix = f"/{escape(name)}"
            types.update((prefix + pattern, kind) for pattern, kind in found.items())
    return plain, types


def _elements(value: object, members: Iterable[object], depth: int) -> list[tuple[object, Types]]:
    if depth == VALUE_DEPTH_MAX:
        raise NotStorableError(TOO_DEEP, value)
    elements: list[tuple[object, Types]] = []
    for member in members:
        try:
            elements.append(convert(member, depth + 1))
        except NotStorableError as refused:
            refused.path.append(str(len(elements)))
            raise
    return elements


def _element_types(elements: list[tuple[object, Types]]) -> Types:
    """One `*` pattern where the elements agree, else one pattern an element."""
    types: Types = {}
    for pattern in dict.fromkeys(pattern for _, found in elements for pattern in found):
        kinds = {index: found[pattern] for index, (_, found) in enumerate(elements) if pattern in found}
        if len(set(kinds.values())) == 1 and _rest_is_empty(elements, pattern):
            types[f"/*{pattern}"] = next(iter(kinds.values()))
        else:
            types.update((f"/{index}{pattern}", kind) for index, kind in kinds.items())
    return types


def _rest_is_empty(elements: list[tuple[object, Types]], pattern: str) -> bool:
    """Whether the pattern meets null or nothing in every element that does not have it."""
    steps = split(pattern)
    return all(pattern in found or _is_empty(plain, steps) for plain, found in elements)


def _is_empty(plain: object, steps: tuple[str | None, ...]) -> bool:
    if plain is None or not steps:
        return plain is None
    container: Any = plain
    return all(_is_empty(container[key], steps[1:]) for key in members(container, steps[0]))


def _holds_object(plain: object) -> bool:
    return isinstance(plain, dict) or (isinstance(plain, list) and any(map(_holds_object, plain)))
