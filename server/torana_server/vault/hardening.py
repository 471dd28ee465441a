"""Keeps plaintext out of core files and away from debuggers."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_PR_SET_DUMPABLE = 4  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Hardening:
    """What is in force for this process now."""

    core_files_off: bool
    ptrace_off: bool


def harden_process() -> Hardening:
    """Sets RLIMIT_CORE to 0 and, on Linux, PR_SET_DUMPABLE to 0. To be called once, before any key is read.

    Not undone by anything but a new process. What a platform lacks is reported, not raised.
    """
    return Hardening(core_files_off=_disable_core_files(), ptrace_off=_disable_ptrace())


def _disable_core_files() -> bool:
    if sys.platform == "win32":
        return False
    import resource  # noqa: PLC0415 — does not exist on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return True


def _disable_ptrace() -> bool:
    if sys.platform != "linux":
        return False
    return int(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)) == 0
