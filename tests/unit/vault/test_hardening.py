from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource
from torana_server.vault import Hardening, harden_process
assert harden_process() == Hardening(core_files_off=True, ptrace_off=True)
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
print("hardened")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the other platforms have no PR_SET_DUMPABLE")
def test_core_files_and_ptrace_are_off() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("hardened\n", "")
