"""For every test."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("tests", deadline=None)  # no test depends on how fast a machine is
settings.load_profile("tests")


def pytest_configure() -> None:
    """Started in the background, tests find signals ignored, and so would the commands that they send them to."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
