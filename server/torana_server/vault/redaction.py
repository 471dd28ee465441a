"""Takes secrets that are in use out of text that others wrote: driver messages, logs, errors, events."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from torana_server.vault.secret import REDACTED

CHARS_MIN = 6
"""Shorter values are ignored: they would match ordinary words."""
VALUES_MAX = 10_000
CHARS_MAX = 4 * 1024 * 1024
"""Of all values together. What is kept for a value is some twenty times as long as it is."""


class Redactor:
    """Finds registered values as they are, and in base64 (at any offset), hex, URL and JSON escapes.

    Holds the latest values, `values_max` of them and `chars_max` characters at most. A text costs time by its own
    length, not by the number of values.
    Thread-safe: log handlers call it from anywhere.
    """

    def __init__(self, values_max: int = VALUES_MAX, chars_max: int = CHARS_MAX) -> None:
        self._values_max = values_max
        self._chars_max = chars_max
        self._values: dict[str, None] = {}
        self._chars = 0
        self._index: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()

    def register(self, values: Iterable[str]) -> None:
        with self._lock:
            for value in values:
                if len(value) < CHARS_MIN:
                    continue
                if value in self._values:
                    del self._values[value]  # goes to the end: in use again
                else:
                    _add(self._index, value)
                    self._chars += len(value)
                self._values[value] = None
            if len(self._values) > self._values_max or self._chars > self._chars_max:
                self._forget_oldest()

    def redact(self, text: str) -> str:
        """`text` with every form of every registered value replaced by `[redacted]`."""
        index = self._index
        if not index:
            return text
        hits = [at for at in range(len(text) - CHARS_MIN + 1) if text[at : at + CHARS_MIN] in index]
        if not hits:
            return text
        pieces: list[str] = []
        done = 0
        for start, end in _spans(text, hits, index):
            pieces += (text[done:start], REDACTED)
            done = end
        return "".join((*pieces, text[done:]))

    def _forget_oldest(self) -> None:
        """Forgets a quarter at once, so that rebuilding the index is rare."""
        values_kept, chars_kept = self._values_max * 3 // 4, self._chars_max * 3 // 4
        for value in list(self._values):
            if len(self._values) <= values_kept and self._chars <= chars_kept:
                break
            del self._values[value]
            self._chars -= len(value)
        index: dict[str, tuple[str, ...]] = {}
        for value in self._values:
            _add(index, value)
        self._index = index


def _add(index: dict[str, tuple[str, ...]], value: str) -> None:
    """Under its first characters, each form; the longest first."""
    for form in _forms(value):
        start = form[:CHARS_MIN]
        held = index.get(start, ())
        if form not in held:
            index[start] = tuple(sorted((*held, form), key=len, reverse=True))


def _spans(text: str, hits: list[int], index: dict[str, tuple[str, ...]]) -> Iterator[tuple[int, int]]:
    """Where values lie; values that overlap or touch make one span."""
    start = end = -1
    for at in hits:
        form = next((form for form in index[text[at : at + CHARS_MIN]] if text.startswith(form, at)), None)
        if form is None:
            continue
        if at > end:
            if end >= 0:
                yield start, end
            start = at
        end = max(end, at + len(form))
    if end >= 0:
        yield start, end


def _forms(value: str) -> Iterator[str]:
    data = value.encode(errors="surrogatepass")
    yield value
    yield repr(value)[1:-1]
    for ensure_ascii in (False, True):
        yield json.dumps(value, ensure_ascii=ensure_ascii)[1:-1]
    yield data.hex()
    yield data.hex().upper()
    for escaped in (quote(data), quote(data, safe=""), quote_plus(data)):
        yield escaped
        yield _lower_escapes(escaped)
    yield base64.b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode()
    for offset in range(3):
        yield from _base64_within(data, offset)


def _base64_within(data: bytes, offset: int) -> Iterator[str]:
    """The characters that depend on `data` alone where it begins `offset` bytes (mod 3) into a longer text."""
    first = (0, 2, 3)[offset]
    last = (offset + len(data)) * 8 // 6
    padded = bytes(offset) + data
    yield base64.b64encode(padded).decode()[first:last]
    yield base64.urlsafe_b64encode(padded).decode()[first:last]


def _lower_escapes(escaped: str) -> str:
    head, *rest = escaped.split("%")
    return "%".join((head, *(part[:2].lower() + part[2:] for part in rest)))
