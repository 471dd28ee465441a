"""Dotted paths into values, as connections and templates write them: `customers`, `rows.0.id`, `a\\.b` for one key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Path = tuple[str, ...]
"""Keys and indexes from the outside in; () is the whole value."""

_STEP = re.compile(r"(?:\\.|[^.\\])+", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

KEYS_NAMED = 20
"""Keys that a message lists before it says how many more there are."""


class PathNotFoundError(LookupError):
    """`where` was reached, `step` is not in it; `has` says in words what is."""

    def __init__(self, where: Path, step: str, has: str) -> None:
        super().__init__(f"no {step!r} in {written(where) or 'it'}, which has {has}")
        self.where = where
        self.step = step
        self.has = has


def parse_path(text: str) -> Path:
    """The path a text stands for. A backslash makes the next character part of the key. Raises ValueError."""
    if not text:
        return ()
    steps = []
    position = 0
    while True:
        step = _STEP.match(text, position)
        if step is None:
            raise ValueError(f"{text!r} is not a path: keys are joined by single dots, and '\\.' is a dot in a key")
        steps.append(_ESCAPED.sub(r"\1", step[0]))
        position = step.end()
        if position == len(text):
            return tuple(steps)
        if text[position] != ".":
            raise ValueError(f"{text!r} is not a path: it ends in a backslash that escapes nothing")
        position += 1


def within_output(path: Path) -> Path:
    """A path into a step's output: one leading `result` is the output itself."""
    return path[1:] if path[:1] == ("result",) else path


def written(path: Path) -> str:
    """The text of a path."""
    return ".".join(step.replace("\\", "\\\\").replace(".", "\\.") for step in path)


def look_up(value: Any, path: Path) -> Any:
    """What a path leads to. Raises PathNotFoundError."""
    for depth, step in enumerate(path):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and _is_index(step, len(value)):
            value = value[int(step)]
        else:
            raise PathNotFoundError(path[:depth], step, contents(value))
    return value


def contents(value: object) -> str:
    """What a value holds, in words: "the keys a, b"."""
    if isinstance(value, Mapping):
        names = [str(key) for key in value][:KEYS_NAMED]
        more = f" and {len(value) - len(names)} more" if len(value) > len(names) else ""
        return f"the keys {', '.join(names)}{more}" if names else "no keys"
    if isinstance(value, list | tuple):
        return f"the indexes 0 to {len(value) - 1}" if value else "no elements"
    return "nothing inside: it is null" if value is None else f"nothing inside: it is of type {type(value).__name__}"


def _is_index(step: str, length: int) -> bool:
    return step.isascii() and step.isdigit() and len(step) < 10 and int(step) < length
