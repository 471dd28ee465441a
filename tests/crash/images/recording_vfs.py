"""A SQLite VFS over the real one that writes down everything that changes a file, in order."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

import apsw

_numbers = itertools.count()


class Create(NamedTuple):
    """The name stands for a new, empty file."""

    file: str


class Write(NamedTuple):
    file: str
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: str
    size: int


class Sync(NamedTuple):
    """What was written to the file is durable; with `directory`, so is which names there are."""

    file: str
    directory: bool


class Delete(NamedTuple):
    file: str
    directory: bool
    """Whether the directory is synced with it."""


Op = Create | Write | Truncate | Sync | Delete


class RecordingVfs(apsw.VFS):
    """Writes operations into `log`, with the last part of each file's path. Temporary files are left out.

    `lies_about` ends the names of files whose syncs never happen: a disk that says "done" too early.
    """

    def __init__(self, log: list[Any], *, lies_about: str | None = None, is_default: bool = False) -> None:
        self.name = f"recording-{next(_numbers)}"
        self.log = log
        self.lies_about = lies_about
        super().__init__(self.name, "", is_default)

    def xOpen(self, name: Any, flags: list[int]) -> RecordingFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is not None and flags[0] & apsw.SQLITE_OPEN_CREATE and not os.path.exists(path):
            self.log.append(Create(Path(path).name))
        return RecordingFile(self, name, flags, "" if path is None else Path(path).name)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.log.append(Delete(Path(filename).name, bool(syncdir)))


class RecordingFile(apsw.VFSFile):
    def __init__(self, vfs: RecordingVfs, name: Any, flags: list[int], file: str) -> None:
        self._vfs = vfs
        self._file = file
        beside = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        # SQLite syncs the directory together with the first sync of a journal or WAL that it may have made.
        self._syncs_directory = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & beside)
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        if self._file:
            self._vfs.log.append(Write(self._file, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        if self._file:
            self._vfs.log.append(Truncate(self._file, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        lies = self._vfs.lies_about
        if lies is not None and self._file.endswith(lies):
            return
        super().xSync(flags)
        if self._file:
            self._vfs.log.append(Sync(self._file, self._syncs_directory))
            self._syncs_directory = False
