"""For every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Started in the background, tests find SIGINT ignored, and so would the commands that they interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
