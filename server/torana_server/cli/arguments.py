"""Values as they are typed, turned into what a request holds. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from torana import Binding
from torana_server.cli.exits import UsageError


def values(typed: Iterable[str], option: str) -> dict[str, Any]:
    """`name=value` pairs. A value that reads as JSON is that; anything else is text, so no quotes are needed."""
    return {name: _value(text) for name, text in _pairs(typed, option)}


def labels(typed: Iterable[str]) -> dict[str, str]:
    return dict(_pairs(typed, "--label"))


def bindings(typed: Iterable[str]) -> dict[str, Binding]:
    """`name=@shared`, or `name={"type": …}` with the fields of a ResourceReference."""
    return {name: _binding(name, text) for name, text in _pairs(typed, "--resource")}


def json_object(text: str, source: str) -> dict[str, Any]:
    """Raises UsageError when the text is no JSON object; the message never holds the text, which may be secret."""
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        message = f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise UsageError(message) from None
    except RecursionError:
        raise UsageError(f"{source} is nested too deeply") from None
    if not isinstance(value, dict):
        raise UsageError(f'{source} must hold a JSON object, such as {{"name": "value"}}')
    return value


def _pairs(typed: Iterable[str], option: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for text in typed:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} takes name=value, not {text!r}")
        if name in dict(pairs):
            raise UsageError(f"{option} gives {name!r} twice")
        pairs.append((name, value))
    return pairs


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (json.JSONDecodeError, _NotJsonError, RecursionError):
        return text


def _binding(name: str, text: str) -> Binding:
    if text.startswith("@"):
        return text
    if not text.startswith("{"):
        raise UsageError(f'--resource {name}: write {name}=@shared-name, or {name}={{"type": "database", …}}')
    reference: Mapping[str, Any] = json_object(text, f"--resource {name}")
    return reference


class _NotJsonError(ValueError):
    pass


def _no_constant(text: str) -> None:
    """NaN and Infinity are Python's, not JSON's."""
    raise _NotJsonError(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UsageError("a JSON object names one of its members twice")
    return members
