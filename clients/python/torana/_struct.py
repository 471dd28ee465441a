"""`google.protobuf.Struct` to and from native values.

A Struct holds every number as a double. Whole numbers read back as integers, and integers that a double cannot hold
exactly are refused instead of being sent changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2

from torana.errors import InvalidRequestError, Violation

EXACT_INTEGER_MAX = 2**53
"""Doubles hold every integer up to here."""
DEPTH_MAX = 100


def struct_from_native(value: Mapping[str, object], path: str) -> struct_pb2.Struct:
    """Raises InvalidRequestError with the path of what a Struct cannot hold."""
    return _value(value, path, 0).struct_value


def struct_to_native(struct: struct_pb2.Struct) -> dict[str, Any]:
    return {key: value_to_native(value) for key, value in struct.fields.items()}


def value_to_native(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= EXACT_INTEGER_MAX else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct_to_native(value.struct_value)
        case "list_value":
            return [value_to_native(item) for item in value.list_value.values]
        case _:
            return None


def _value(value: object, path: str, depth: int) -> struct_pb2.Value:
    if depth > DEPTH_MAX:
        raise _refused(path, f"is nested deeper than {DEPTH_MAX} levels, or contains itself")
    match value:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
        case bool():
            return struct_pb2.Value(bool_value=value)
        case int() | float():
            return struct_pb2.Value(number_value=_number(value, path))
        case str():
            return struct_pb2.Value(string_value=utf8_text(value, path))
        case Mapping():
            fields = {_key(key, path): _value(member, f"{path}.{key}", depth + 1) for key, member in value.items()}
            return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))
        case list() | tuple():
            items = [_value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
            return struct_pb2.Value(list_value=struct_pb2.ListValue(values=items))
        case _:
            raise _refused(path, f"a {type(value).__name__} is not allowed here, only plain JSON values")


def utf8_text(value: str, path: str) -> str:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise _refused(path, "the text holds half of a surrogate pair, which UTF-8 cannot carry")
    return value


def _number(value: float, path: str) -> float:
    if isinstance(value, int) and abs(value) > EXACT_INTEGER_MAX:
        raise _refused(path, "the integer is above 2^53 and would lose digits; write it as a string")
    if not math.isfinite(value):
        raise _refused(path, f"{value} is not a finite number, and JSON has only those")
    return float(value)


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise _refused(path, f"the key {key!r} is not a string, and JSON has only those")
    return utf8_text(key, path)


def _refused(path: str, message: str) -> InvalidRequestError:
    violation = Violation(path, message)
    return InvalidRequestError("the value cannot be sent", reason="INVALID_REQUEST", violations=[violation])
