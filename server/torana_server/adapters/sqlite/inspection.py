"""Looking at the files of a data folder without changing them, whether a server has them open or not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from torana_server.adapters.sqlite import queries
from torana_server.adapters.sqlite.database import BUSY_TIMEOUT_MS
from torana_server.adapters.sqlite.folder import LOCK_FILE
from torana_server.adapters.sqlite.schema import APPLICATION_ID, VERSION
from torana_server.adapters.sqlite.secrets import APPLICATION_ID as VAULT_APPLICATION_ID
from torana_server.core.errors import UnavailableError
from torana_server.execution import TERMINAL_STATES

LOCKS: Final = Path("/proc/locks")
CHECK_S_MAX: Final = 10.0
_STEPS_BETWEEN_LOOKS: Final = 10_000


@dataclass(frozen=True, slots=True)
class JournalReport:
    """`damage` is what SQLite's quick check says, empty when it finds nothing. `newest_event` is as stored."""

    version: int
    known_version: int
    damage: str
    is_checked_whole: bool
    executions: int
    unfinished: int
    newest_event: bytes


@dataclass(frozen=True, slots=True)
class VaultReport:
    """`tenant_keys` are how many each key wraps, `canaries` what each key wrapped at its first use."""

    secrets: int
    tenant_keys: Mapping[str, int]
    canaries: Mapping[str, bytes]


def library_version() -> str:
    """Of the SQLite that the journal uses."""
    return str(apsw.sqlite_lib_version())


def holder_of(folder: Path) -> int | None:
    """The process that has a data folder: None when nobody has, 0 when the system does not tell which."""
    path = folder / LOCK_FILE
    try:
        file = path.open("rb")
    except OSError:
        return None
    with file:
        return _locker(os.fstat(file.fileno()).st_ino) if _is_locked(file.fileno()) else None


def _locker(inode: int) -> int:
    """As Linux tells; the numbers are of this process's own namespace, 0 for one of another. Another file system may
    have a locked file of the same number, so this says who has a lock, not whether there is one."""
    if not LOCKS.exists():
        return 0
    for line in LOCKS.read_text("ascii").splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return max(int(fields[4]), 0)
    return 0


def _is_locked(descriptor: int) -> bool:
    """Takes the lock together with others, for a moment."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def inspect_journal(path: Path, *, in_use: bool) -> JournalReport:
    """Raises UnavailableError for a file that is not a journal or cannot be read."""
    with _reading(path, APPLICATION_ID, "journal", in_use=in_use) as connection:
        version = int(connection.pragma("user_version"))
        if version > VERSION or version == 0:
            return JournalReport(version, VERSION, "", True, 0, 0, b"")
        damage, whole = _damage(connection)
        counts = {queries.STATES[state]: count for state, count in connection.execute(queries.COUNTS)}
        newest = connection.execute("SELECT data FROM events ORDER BY position DESC LIMIT 1").fetchone()
        unfinished = sum(count for state, count in counts.items() if state not in TERMINAL_STATES)
        return JournalReport(
            version, VERSION, damage, whole, sum(counts.values()), unfinished, bytes(newest[0]) if newest else b""
        )


def inspect_vault(path: Path, *, in_use: bool) -> VaultReport:
    """Raises UnavailableError for a file that is not a vault or cannot be read."""
    with _reading(path, VAULT_APPLICATION_ID, "vault", in_use=in_use) as connection:
        return VaultReport(
            secrets=connection.execute("SELECT count(*) FROM secret WHERE live = 1").get,
            tenant_keys=dict(connection.execute("SELECT key_id, count(*) FROM tenant_key GROUP BY key_id")),
            canaries={key_id: bytes(wrapped) for key_id, wrapped in connection.execute("SELECT * FROM canary")},
        )


@contextlib.contextmanager
def _reading(path: Path, application_id: int, what: str, *, in_use: bool) -> Iterator[apsw.Connection]:
    """A file that nobody writes is opened as one that cannot change, so that SQLite makes no files beside it."""
    beside = path.with_name(f"{path.name}-wal")
    still = not in_use and not (beside.exists() and beside.stat().st_size)
    uri = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if still else ''}"
    try:
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        with contextlib.closing(connection):
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
            if tables and connection.pragma("application_id") != application_id:
                raise UnavailableError(f"{path} is an SQLite file of another program, no {what} of Torana")
            yield connection
    except apsw.Error as error:
        raise UnavailableError(f"{path} cannot be read as a {what}: {type(error).__name__}") from error


def _damage(connection: apsw.Connection) -> tuple[str, bool]:
    """What is damaged, and whether all was looked at: a large file is given up on after CHECK_S_MAX."""
    end = time.monotonic() + CHECK_S_MAX
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
    try:
        found = str(connection.execute("PRAGMA quick_check(1)").get)
    except apsw.InterruptError:
        return "", False
    finally:
        connection.set_progress_handler(None)
    return ("" if found == "ok" else found.splitlines()[0]), True
