"""What becomes of characters that the encoding of a stream lacks."""

from __future__ import annotations

import codecs
from typing import TextIO

LIKENESSES = {"✓": "+", "✗": "x", "■": "#", "·": "-", "…": "...", "→": "->"}
_HANDLER = "torana-ascii"


def fit_encodings(*streams: TextIO) -> None:
    """They write such a character as its likeness in ASCII, or else escaped; it is never an error."""
    codecs.register_error(_HANDLER, _as_ascii)
    for stream in streams:
        stream.reconfigure(errors=_HANDLER)  # type: ignore[attr-defined] # a TextIOWrapper unless somebody replaced it


def _as_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError), "registered for writing"
    likeness = LIKENESSES.get(error.object[error.start])
    return codecs.backslashreplace_errors(error) if likeness is None else (likeness, error.start + 1)
