"""The data folder of a journal: who has it, who may read it, and how much room is left."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from torana_server.core.errors import Reason, StateError, UnavailableError

JOURNAL_FILE: Final = "journal.db"
LOCK_FILE: Final = "journal.lock"
ROOM_CHECK_INTERVAL_S: Final = 1.0


class DataFolder:
    """A folder held for this process alone by an flock on `journal.lock`, which the OS drops when the process dies.

    What it creates is readable by its owner only (folder 0700, files 0600; SQLite gives the WAL the journal's mode).
    """

    def __init__(self, path: Path) -> None:
        """Raises StateError (JOURNAL_IN_USE) if another process has the folder, UnavailableError if it is unusable."""
        self.path = path
        self.journal = path / JOURNAL_FILE
        make_private_folder(path)
        try:
            os.close(_open_private(self.journal))
            self._lock = _open_private(path / LOCK_FILE)
        except OSError as error:
            raise _unusable(path, error) from error
        self._take_lock()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise StateError(
                f"another server or gateway has the journal in {self.path} open; close it, or use another data folder",
                reason=Reason.JOURNAL_IN_USE,
            ) from error

    def close(self) -> None:
        os.close(self._lock)


def make_private_folder(path: Path) -> None:
    """With mode 0700, unless it is there. Raises UnavailableError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the data folder {path} cannot be used ({error.strerror}); give the server a folder it may write to"
    )


def _open_private(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


class Room:
    """Whether a disk has more than a reserve left. Asks the OS at most once in ROOM_CHECK_INTERVAL_S."""

    def __init__(
        self, free_bytes: Callable[[], int], reserve_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._free_bytes = free_bytes
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._check_at = clock()
        self._enough = True

    def enough(self) -> bool:
        now = self._clock()
        if now >= self._check_at:
            self._check_at = now + ROOM_CHECK_INTERVAL_S
            self._enough = self._free_bytes() > self._reserve_bytes
        return self._enough


def free_bytes(folder: Path) -> int:
    """Bytes that an unprivileged process can still write."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
