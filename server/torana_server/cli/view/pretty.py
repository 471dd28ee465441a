"""JSON for people: what is small stands on one line, what is long is shortened and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from torana_server.cli.view.json_lines import value_json
from torana_server.cli.view.text import one_line

INLINE_CHARACTERS = 76
ITEMS_SHOWN = 3
ITEMS_MAX = 10
STRING_CHARACTERS_MAX = 200
INDENT = "  "


def pretty_lines(value: object) -> list[str]:
    """Arrays above ITEMS_MAX keep ITEMS_SHOWN items. The lines are printable."""
    plain = json.loads(value_json(value))
    return [one_line(line) for line in _lines(_shortened(plain), "", "")]


def one_line_of(name: str, value: object, width: int) -> str:
    text = one_line(f"{name}: {value_json(_shortened(json.loads(value_json(value))))}")
    return text if len(text) <= width else f"{text[: width - 1]}…"


class _More(str):
    """Stands for what was left out; it is no JSON and has no quotes."""

    __slots__ = ()


def _shortened(value: Any) -> Any:
    match value:
        case dict():
            return {name: _shortened(member) for name, member in value.items()}
        case list() if len(value) > ITEMS_MAX:
            shown = [_shortened(item) for item in value[:ITEMS_SHOWN]]
            return [*shown, _More(f"… {len(value) - ITEMS_SHOWN:,} more")]
        case list():
            return [_shortened(item) for item in value]
        case str() if len(value) > STRING_CHARACTERS_MAX:
            return f"{value[:STRING_CHARACTERS_MAX]}… {len(value) - STRING_CHARACTERS_MAX:,} more characters"
        case _:
            return value


def _lines(value: Any, before: str, after: str) -> Iterator[str]:
    """`before` is what stands on the first line already, its indentation included; `after` closes the last."""
    if isinstance(value, _More):
        yield f"{before}{value}"
        return
    inline = value_json(value)
    indent = before[: len(before) - len(before.lstrip())]
    if (len(before) + len(inline) <= INLINE_CHARACTERS and not _is_cut(value)) or not isinstance(value, dict | list):
        yield f"{before}{inline}{after}"
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield f"{before}{opening}"
    items = _members(value) if isinstance(value, dict) else [("", item) for item in value]
    for place, (name, item) in enumerate(items, start=1):
        yield from _lines(item, f"{indent}{INDENT}{name}", "," if place < len(items) else "")
    yield f"{indent}{closing}{after}"


def _members(value: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{json.dumps(name, ensure_ascii=False)}: ", member) for name, member in value.items()]


def _is_cut(value: Any) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(member, _More) or _is_cut(member) for member in members)
