"""A SQLite VFS over the real one whose writes and fsyncs fail when a test says so."""

from __future__ import annotations

import itertools
from typing import Any

import apsw

_numbers = itertools.count()


class FaultyVfs(apsw.VFS):
    """`sync` and `write` hold the error that the next calls raise on files whose name ends as `suffix` says."""

    def __init__(self, suffix: str = "") -> None:
        self.name = f"faulty-{next(_numbers)}"
        self.suffix = suffix
        self.sync: Exception | None = None
        self.write: Exception | None = None
        self.struck = 0
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:
        return FaultyFile(self, name, flags)

    def strike(self, file: FaultyFile, error: Exception | None) -> None:
        if error is not None and file.path.endswith(self.suffix):
            self.struck += 1
            raise error


class FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: FaultyVfs, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        self._vfs.strike(self, self._vfs.sync)
        super().xSync(flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self._vfs.strike(self, self._vfs.write)
        super().xWrite(data, offset)
