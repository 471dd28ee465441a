"""Text of callers in PostgreSQL, whose text has no U+0000. Pure.

U+0000 becomes U+0001 U+0001, and U+0001 becomes U+0001 U+0002: equality and order by code point stay as they were.
"""

from __future__ import annotations


def escaped(text: str) -> str:
    if "\x00" not in text and "\x01" not in text:
        return text
    return text.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")


def plain(text: str) -> str:
    if "\x01" not in text:
        return text
    return text.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")
