"""Text from outside, as an event can hold it."""

from __future__ import annotations


def storable(text: str, chars_max: int) -> str:
    """At most `chars_max` characters; lone surrogates, which UTF-8 cannot hold, become escapes."""
    text = unicode_text(text)
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def unicode_text(text: str) -> str:
    """Lone surrogates as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def is_storable(text: str) -> bool:
    """Whether it is Unicode text as it stands."""
    return storable(text, len(text)) == text
