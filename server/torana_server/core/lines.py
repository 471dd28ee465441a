"""Text and values that others wrote, made fit to be shown: secrets redacted, size bounded, no line forged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

LINE_CHARS_MAX = 8_000
EXCERPT_CHARS_MAX = 16_000
EXCERPT_DEPTH_MAX = 12

_SECRET_CHARS_MAX = 32_000
"""The longest written form of a secret that is found where a long text is cut."""
_INTEGER_BITS_MAX = 14_000
"""CPython refuses to write integers of more than 4,300 digits."""
_SCALAR_CHARS = 8
_NOTE_CHARS = 40

Redact = Callable[[str], str]


def one_line(text: str) -> str:
    """What is not printable becomes an escape: control characters, line breaks, ANSI escapes, bidirectional and
    zero-width characters, lone surrogates. So nothing can forge a line, hide a part of it or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, redact: Redact, chars_max: int) -> str:
    """Redacts, then cuts after `chars_max` characters, with a note of what is missing.

    The work is bounded, however long the text is.
    """
    reach = chars_max + 2 * _SECRET_CHARS_MAX
    if len(text) <= reach:
        kept = redact(text)
        missing = len(kept) - chars_max
    else:
        kept = redact(text[:reach])
        # A secret that the cut went through is not recognised; what is left of it lies at the end.
        chars_max = min(chars_max, max(0, len(kept) - _SECRET_CHARS_MAX))
        missing = len(text) - chars_max
    return kept if missing <= 0 else f"{kept[:chars_max]}… ({missing} more characters)"


def clean(text: str, redact: Redact, chars_max: int = LINE_CHARS_MAX) -> str:
    """One redacted line of little more than `chars_max` characters."""
    line = one_line(shortened(text, redact, chars_max))
    return line if len(line) <= 2 * chars_max else f"{line[: 2 * chars_max]}…"


def unchanged(text: str) -> str:
    return text


def excerpt(
    value: object,
    redact: Redact,
    *,
    chars_max: int = EXCERPT_CHARS_MAX,
    escape: Callable[[str], str] = one_line,
) -> object:
    """The value as JSON of about `chars_max` characters at most: redacted, keys and numbers included, and cut with
    notes of what is missing. What JSON lacks becomes its `repr`. `escape` is done to every text."""
    return _Excerpt(redact, chars_max, escape).value(value, 0)


class _Excerpt:
    __slots__ = ("_escape", "_left", "_redact")

    def __init__(self, redact: Redact, chars_max: int, escape: Callable[[str], str]) -> None:
        self._redact = redact
        self._left = chars_max
        self._escape = escape

    def value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool):
            self._left -= _SCALAR_CHARS
            return value
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            return self._number(int(value)) if value.bit_length() <= _INTEGER_BITS_MAX else "… (a very large integer)"
        if isinstance(value, float):
            return self._number(float(value)) if math.isfinite(value) else self._text(str(float(value)))
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth >= EXCERPT_DEPTH_MAX:
                return "… (nested deeper)"
            return self._object(value, depth) if isinstance(value, Mapping) else self._array(list(value), depth)
        return self._text(described(value))

    def _text(self, text: str) -> str:
        left = max(0, self._left)
        text = self._escape(shortened(text, self._redact, left))
        if len(text) > 2 * left + _NOTE_CHARS:
            text = f"{text[: 2 * left]}…"
        self._left -= len(text) + 2
        return text

    def _number(self, number: int | float) -> object:
        written = repr(number)
        self._left -= len(written)
        return number if self._redact(written) == written else self._text(written)

    def _object(self, value: Mapping[object, object], depth: int) -> dict[str, object]:
        written: dict[str, object] = {}
        for index, (key, item) in enumerate(value.items()):
            if self._left <= 0:
                written["…"] = f"({len(value) - index} more)"
                break
            name = self._text(key if isinstance(key, str) else described(key))
            written[name] = self.value(item, depth + 1)
        return written

    def _array(self, items: list[object], depth: int) -> list[object]:
        written: list[object] = []
        for index, item in enumerate(items):
            if self._left <= 0:
                written.append(f"… ({len(items) - index} more)")
                break
            written.append(self.value(item, depth + 1))
        return written


def described(value: object) -> str:
    """`repr`, or the class of an object whose `repr` fails."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 — what is shown belongs to others, and showing it must not fail
        return f"<{type(value).__name__}>"
