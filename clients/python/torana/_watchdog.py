"""A time limit for blocking reads: gRPC's blocking streams have none for a single message."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls a function when the block under `limit` takes too long. One thread, started when first needed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expire: Callable[[], object] | None = None
        self._deadline = math.inf
        self._wakes_at = math.inf
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, timeout_s: float, expire: Callable[[], object]) -> Iterator[Callable[[], bool]]:
        """Yields a function that says whether the time was up. `expire` is called once, from the other thread."""
        self._arm(time.monotonic() + timeout_s, expire)
        try:
            yield lambda: self._expire is None
        finally:
            with self._changed:
                self._expire = None
                self._deadline = math.inf

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _arm(self, deadline: float, expire: Callable[[], object]) -> None:
        with self._changed:
            self._expire, self._deadline = expire, deadline
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="torana-watchdog", daemon=True)
                self._thread.start()
            # Deadlines mostly move later. The thread then finds out by itself, without a switch for every message.
            if deadline < self._wakes_at:
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                now = time.monotonic()
                if self._expire is not None and now >= self._deadline:
                    expire, self._expire, self._deadline = self._expire, None, math.inf
                    expire()
                self._wakes_at = self._deadline
                self._changed.wait(None if math.isinf(self._wakes_at) else self._wakes_at - now)
