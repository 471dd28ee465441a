"""Connections to the journal file, and what SQLite's errors mean."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from torana_server.adapters.journal_rules import RETRY_AFTER_S
from torana_server.core import logs
from torana_server.core.errors import ConflictError, Reason, StepError, ToranaError, UnavailableError

SQLITE_VERSION_MIN: Final = (3, 51, 3)
"""Earlier versions can corrupt a WAL when a checkpoint resets it."""
BUSY_TIMEOUT_MS: Final = 5_000
PASSING: Final = (apsw.FullError, apsw.BusyError, apsw.LockedError)
"""The transaction is rolled back and the next one may succeed."""
OF_ONE_WRITE: Final = (
    apsw.ConstraintError,
    apsw.TooBigError,
    apsw.MismatchError,
    ValueError,
    TypeError,
    OverflowError,
)
"""Something in the values of one write; the other writes of its group are sound."""

_log = logs.logger("journal")


def check_version(version: str) -> None:
    """Raises UnavailableError for a SQLite library that may corrupt the journal."""
    if tuple(int(part) for part in version.split(".")[:3]) < SQLITE_VERSION_MIN:
        needed = ".".join(map(str, SQLITE_VERSION_MIN))
        raise UnavailableError(f"SQLite {version} can corrupt a journal; install apsw with SQLite {needed} or later")


def open_writer(path: Path, vfs: str | None) -> apsw.Connection:
    """The only connection that writes and checkpoints. A commit returns after its fsync.

    Checkpoints are the writer's own calls: those that SQLite starts by itself swallow their errors, and a failed
    fsync must not pass unseen.
    """
    check_version(apsw.sqlite_lib_version())
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    mode = connection.execute("PRAGMA journal_mode = WAL").get
    if mode != "wal":
        raise UnavailableError("the data folder's file system does not support SQLite's WAL; use a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.wal_autocheckpoint(0)
    return connection


def open_reader(path: Path, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    return connection


def translated(error: Exception) -> ToranaError:
    """What a caller is told; SQLite's own words go to the log."""
    if isinstance(error, ToranaError):
        return error
    if isinstance(error, apsw.FullError):
        return UnavailableError("the journal's disk is full; free some space", retry_after_s=RETRY_AFTER_S)
    if isinstance(error, apsw.ConstraintError):
        return ConflictError("an execution with this id, or an event with this sequence, exists already")
    if isinstance(error, OF_ONE_WRITE):
        return StepError("a value cannot be stored in the journal", reason=Reason.VALUE_NOT_STORABLE)
    if isinstance(error, PASSING):
        return UnavailableError("the journal is locked by another program", retry_after_s=RETRY_AFTER_S)
    _log.error("journal error", exc_info=error)
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return UnavailableError("the journal file is damaged; restore it from a backup")
    return UnavailableError("the journal cannot be read or written; see the server's log")
