"""For every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Whoever starts the tests in the background may leave SIGINT ignored, also for the commands that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
