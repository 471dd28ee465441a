"""Waiting for a journal that cannot answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from torana_server.core import logs
from torana_server.core.errors import UnavailableError

logger = logs.logger("execution")

STORE_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses while the journal is unavailable; the last one repeats."""

Answer = TypeVar("Answer")


async def patiently(call: Callable[[], Awaitable[Answer]], execution: str) -> Answer:
    """The journal's answer, however long it takes to come (P9). `call` must be safe to repeat.

    The wait is logged once, since everything that runs may wait at the same time.
    """
    failures = 0
    while True:
        try:
            return await call()
        except UnavailableError as error:
            level = logging.DEBUG if failures else logging.WARNING
            logger.log(level, "execution %s waits for the journal: %s", execution, error)
            await asyncio.sleep(STORE_RETRY_S[min(failures, len(STORE_RETRY_S) - 1)])
            failures += 1
