"""Identifiers. Executions get UUIDv7 (RFC 9562), so that ids sort by creation and name no tenant.

    48 bits of Unix milliseconds | 4 bits version | 12 random bits | 2 bits variant | 62 random bits

The ids of one process rise strictly, also within a millisecond and when the system's clock steps back: the random
bits then go up by a random amount from those of the last id (RFC 9562, section 6.2, method 2).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from typing import Final

NAME_PATTERN = r"[A-Za-z][A-Za-z0-9_-]{0,127}"
_NAME = re.compile(NAME_PATTERN)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

NAME_RULE = "a letter, then up to 127 letters, digits, '_' or '-'"


_RANDOM_BITS: Final = 74
_STEP_BYTES: Final = 6
"""What may lie between two ids of one millisecond: too much to guess, and room for millions of ids."""


class RisingIds:
    """Makes UUIDv7 that rise. `now_ms` is Unix time in milliseconds. Threads may share one."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._last = 0
        """Milliseconds and random bits of the last id. A carry runs into the next millisecond."""
        self._one_at_a_time = threading.Lock()

    def next(self) -> str:
        with self._one_at_a_time:
            fresh = self._now_ms() << _RANDOM_BITS | int.from_bytes(os.urandom(10)) >> 80 - _RANDOM_BITS
            if fresh >> _RANDOM_BITS <= self._last >> _RANDOM_BITS:
                fresh = self._last + 1 + int.from_bytes(os.urandom(_STEP_BYTES))
            self._last = fresh
        return _written(fresh)


def _written(bits: int) -> str:
    head, tail = bits >> 62, bits & (1 << 62) - 1
    value = (head >> 12) << 80 | 0x7 << 76 | (head & 0xFFF) << 64 | 0x2 << 62 | tail
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_ids = RisingIds(lambda: time.time_ns() // 1_000_000)


def new_id() -> str:
    """A UUIDv7 above all that this process made before."""
    return _ids.next()


def is_id(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether `text` may name a workflow, step, resource or secret (`NAME_RULE`)."""
    return _NAME.fullmatch(text) is not None
