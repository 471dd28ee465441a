"""JSON pointer patterns; their form is stated in `values.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1").replace("*", "~2")


def pointer_of(path: Iterable[str]) -> str:
    return "".join(f"/{escape(step)}" for step in path)


def split(pattern: str) -> tuple[str | None, ...]:
    """The steps of a pattern; None is `*`."""
    return tuple(
        None if step == "*" else step.replace("~2", "*").replace("~1", "/").replace("~0", "~")
        for step in pattern.split("/")[1:]
    )


def members(container: Any, step: str | None) -> Sequence[Any]:
    """The keys or indexes one step of a pattern leads to. In an object `*` is the key of that name."""
    if isinstance(container, dict):
        key = "*" if step is None else step
        return (key,) if key in container else ()
    if not isinstance(container, list):
        return ()
    if step is None:
        return range(len(container))
    if step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(container):
        return (int(step),)
    return ()
