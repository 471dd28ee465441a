"""Identifiers. Executions get UUIDv7 (RFC 9562), so that ids sort by creation and name no tenant."""

from __future__ import annotations

import os
import re
import time

NAME_PATTERN = r"[A-Za-z][A-Za-z0-9_-]{0,127}"
_NAME = re.compile(NAME_PATTERN)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

NAME_RULE = "a letter, then up to 127 letters, digits, '_' or '-'"


def new_id() -> str:
    """A UUIDv7: 48 bits of Unix milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether `text` may name a workflow, step, resource or secret (`NAME_RULE`)."""
    return _NAME.fullmatch(text) is not None
