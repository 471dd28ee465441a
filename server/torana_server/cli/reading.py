"""Texts that a command is given: in a file, or on standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from torana_server.cli.exits import UsageError

STDIN: Final = "-"


def source_name(source: str) -> str:
    """What messages call it."""
    return "standard input" if source == STDIN else source


def text_of(source: str) -> str:
    """Of a file, or for `-` of standard input. Raises UsageError, never with the text, which may be secret."""
    try:
        return sys.stdin.read() if source == STDIN else Path(source).read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{source_name(source)} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        message = f"{source_name(source)} cannot be read: it is not {error.encoding} text from byte {error.start} on"
        raise UsageError(message) from None
