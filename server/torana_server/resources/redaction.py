"""Text that may leave: what a driver said, without what it was told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from torana_server.core.credentials import ALLOWED_HOSTS

REDACTED = "[redacted]"
TEXT_CHARS_MAX = 500

_ADDRESS_WITH_CREDENTIALS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/@]*@\S*", re.IGNORECASE)
_SHORTEST_REDACTED = 3
"""Shorter credentials would blank out parts of ordinary words, and then point at themselves."""

Scrub = Callable[[str], str]


def scrubber(credentials: Mapping[str, object], redact: Scrub) -> Scrub:
    """A function that removes these credentials, addresses that hold any, and whatever `redact` knows.

    One line of at most `TEXT_CHARS_MAX` characters comes out.
    """
    secrets = sorted(set(_strings(credentials)), key=len, reverse=True)

    def scrub(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, REDACTED)
        text = redact(_ADDRESS_WITH_CREDENTIALS.sub(REDACTED, text))
        return " ".join(text.split())[:TEXT_CHARS_MAX]

    return scrub


def error_text(error: BaseException) -> str:
    """The error's class and message, not yet scrubbed."""
    message = str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) >= _SHORTEST_REDACTED:
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key != ALLOWED_HOSTS:
                yield from _strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item)
