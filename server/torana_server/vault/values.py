"""What may be stored as a secret: a JSON object of at most `SECRET_BYTES_MAX` bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from torana_server.core.credentials import ALLOWED_HOSTS
from torana_server.core.errors import InvalidRequestError, Reason, Violation
from torana_server.core.limits import INTEGER_DIGITS_MAX, SECRET_BYTES_MAX, VALUE_DEPTH_MAX

_INTEGER_BOUND = 10**INTEGER_DIGITS_MAX
_AUTH_SCHEMES = ("bearer ", "basic ", "token ", "apikey ")
_PUBLIC_KEYS = frozenset({"header", ALLOWED_HOSTS})
"""Keys whose value is the name of an HTTP header, or hosts: hiding `Authorization` from every log protects nothing."""


def encode_value(value: object) -> bytes:
    """A mapping, or a string that stands for `{"token": <string>}`, as compact UTF-8 JSON.

    Raises InvalidRequestError listing every part that is not JSON by its path, never by its value; with
    reason VALUE_TOO_LARGE past `SECRET_BYTES_MAX` bytes.
    """
    violations: list[Violation] = []
    plain = _plain(_as_mapping(value), "value", 0, violations)
    if violations:
        raise InvalidRequestError("the secret's value is not a JSON object of credentials", violations=violations)
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > SECRET_BYTES_MAX:
        raise InvalidRequestError(
            f"the secret's value takes {len(text)} bytes as JSON; the limit is {SECRET_BYTES_MAX}",
            reason=Reason.VALUE_TOO_LARGE,
            metadata={"bytes": str(len(text)), "bytesMax": str(SECRET_BYTES_MAX)},
        )
    return text


def string_leaves(values: Mapping[str, Any]) -> Iterator[str]:
    """The strings that must not appear in any output, with the passwords and tokens that some contain."""
    for key, value in values.items():
        if key not in _PUBLIC_KEYS:
            yield from _leaves(value)


def _as_mapping(value: object) -> Mapping[Any, Any]:
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        value = {"token": value}
    if isinstance(value, Mapping) and value:
        return value
    if isinstance(value, str):
        problem = "JSON text; pass the mapping itself"
    elif isinstance(value, Mapping):
        problem = 'empty; pass the credentials, such as {"user": …, "password": …}'
    else:
        problem = f"of type {type(value).__name__}; pass a mapping, or a string for a token"
    raise InvalidRequestError(
        "the secret's value is not a JSON object of credentials", violations=[Violation("value", f"is {problem}")]
    )


def _plain(value: object, path: str, depth: int, violations: list[Violation]) -> Any:
    problem: str | None
    if depth > VALUE_DEPTH_MAX:
        problem = f"is nested deeper than {VALUE_DEPTH_MAX}"
    elif isinstance(value, Mapping):
        return {
            _key(key, path, violations): _plain(item, f"{path}.{key}", depth + 1, violations)
            for key, item in value.items()
        }
    elif isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{i}]", depth + 1, violations) for i, item in enumerate(value)]
    else:
        problem = _scalar_problem(value)
    if problem:
        violations.append(Violation(path, problem))
    return value


def _key(key: object, path: str, violations: list[Violation]) -> str:
    if not isinstance(key, str):
        violations.append(Violation(path, f"has a key of type {type(key).__name__}; keys are strings"))
        return ""
    if problem := _scalar_problem(key):
        violations.append(Violation(path, f"has a key that {problem}"))
    return key


def _scalar_problem(value: object) -> str | None:
    match value:
        case None | bool():
            return None
        case str():
            return None if _encodes(value) else "holds a lone surrogate, which UTF-8 has no form for"
        case int():
            return None if abs(value) < _INTEGER_BOUND else f"has more than {INTEGER_DIGITS_MAX} digits"
        case float():
            return None if math.isfinite(value) else "is not a finite number"
        case _:
            return f"is of type {type(value).__name__}, which is not JSON; store text, numbers, lists or objects"


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from string_leaves(value)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value
        yield from _inner_credentials(value)


def _inner_credentials(text: str) -> Iterator[str]:
    if text.lower().startswith(_AUTH_SCHEMES):
        yield text.split(" ", 1)[1].strip()
    if "://" in text:
        try:
            password = urlsplit(text).password
        except ValueError:  # not a URL after all; the text as a whole is already covered
            return
        if password:
            yield password
            yield unquote(password)
