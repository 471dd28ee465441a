"""JSON text to JSON values to native values; the forms are stated in `values.py`."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from torana_server.core._patterns import members, pointer_of, split
from torana_server.core._to_json import LONG_INTEGER
from torana_server.core.errors import InvalidRequestError, Violation
from torana_server.core.limits import INTEGER_DIGITS_MAX


def refuse_constant(name: str) -> object:
    raise invalid(f"{name} is not JSON; only finite numbers can be stored")


trusted = json.JSONDecoder(parse_constant=refuse_constant)
read_trusted = trusted.raw_decode


class Node:
    """Patterns as a tree, so that one walk over the value applies them all however many there are."""

    __slots__ = ("children", "kind")

    def __init__(self) -> None:
        self.kind = ""
        self.children: dict[str | None, Node] = {}


def tree(types: Mapping[str, str]) -> list[Node]:
    root = Node()
    for pattern, kind in types.items():
        if kind not in _READERS:
            raise invalid(f"unknown type {kind!r}; known are {', '.join(_READERS)}", pattern)
        if pattern and not pattern.startswith("/"):
            raise invalid("a pattern is empty or starts with '/'", pattern)
        node = root
        for step in split(pattern):
            node = node.children.setdefault(step, Node())
        node.kind = kind
    return [root]


def restore(value: Any, nodes: list[Node], path: tuple[str, ...]) -> Any:
    """Applies the inner patterns first: a set is made of finished elements, and a tuple cannot be changed."""
    inner: dict[Any, list[Node]] = {}
    for node in nodes:
        for step, child in node.children.items():
            for key in members(value, step):
                inner.setdefault(key, []).append(child)
    for key, found in inner.items():
        value[key] = restore(value[key], found, (*path, str(key)))
    kinds = {node.kind for node in nodes if node.kind}
    if not kinds or value is None:
        return value
    if len(kinds) > 1:
        raise invalid(f"has several types: {', '.join(sorted(kinds))}", pointer_of(path))
    return _read_as(value, kinds.pop(), path)


def _read_as(value: Any, kind: str, path: tuple[str, ...]) -> object:
    shape, reader = _READERS[kind]
    try:
        if isinstance(value, shape):
            return reader(value)
    except (ValueError, TypeError, OverflowError, InvalidOperation):
        pass  # said below, without the reader's own words
    raise invalid(f"{value!r:.80} is not a {kind}", pointer_of(path))


_SECONDS = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")


def _timedelta(text: str) -> timedelta:
    if not _SECONDS.fullmatch(text):
        raise ValueError(text)
    return timedelta(microseconds=int(Decimal(text).scaleb(6)))


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        raise ValueError(text)
    return value


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _set(elements: list[Any]) -> set[Any]:
    return {_hashable(element) for element in elements}


def _hashable(value: Any) -> Any:
    """An element of a set: a set in it can only have been a frozen one."""
    if isinstance(value, tuple):
        return tuple(map(_hashable, value))
    return frozenset(value) if isinstance(value, set) else value


_READERS: dict[str, tuple[type, Callable[[Any], object]]] = {
    "datetime": (str, datetime.fromisoformat),
    "date": (str, date.fromisoformat),
    "time": (str, time.fromisoformat),
    "timedelta": (str, _timedelta),
    "decimal": (str, _decimal),
    "uuid": (str, UUID),
    "bytes": (str, _bytes),
    "tuple": (list, tuple),
    "set": (list, _set),
}


def invalid(message: str, pointer: str = "") -> InvalidRequestError:
    return InvalidRequestError("the value cannot be read", violations=[Violation(pointer, message)])


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(members)
    if len(value) < len(members):
        seen: set[str] = set()
        repeated = next(key for key, _ in members if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # the idiom
        raise invalid(f"the key {repeated!r:.80} is there twice in one object")
    return value


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > INTEGER_DIGITS_MAX:
        raise invalid(f"{text[:20]}… {LONG_INTEGER}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise invalid(f"the number {text[:80]} is beyond the range of a double; send it as a string")
    return value


strict = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=refuse_constant
)
