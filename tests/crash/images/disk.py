"""What may be found on a disk after a crash, given what was done to its files before.

A killed process leaves what it wrote. After a power failure what was synced is there. Of what was not, each sector
holds any of the versions it had since, sizes too, and names that were made or removed since the directory was last
synced may be there or not. A sector is never torn, nor older than what was synced.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from crash.images.recording_vfs import Create, Delete, Op, Sync, Truncate, Write

SECTORS_BYTES: Final = (512, 4_096)
NEWEST_ODDS: Final = (0.1, 0.5, 0.9)
"""How often a sector is found as it was last written; one of them for each image."""

Image = Mapping[str, bytes]
"""The contents of the files by name."""


@dataclass(slots=True)
class Inode:
    durable: bytes = b""
    current: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)

    @classmethod
    def of(cls, content: bytes) -> Inode:
        return cls(content, bytearray(content))

    def apply(self, op: Write | Truncate) -> None:
        change(self.current, op)
        self.pending.append(op)

    def sync(self) -> None:
        if self.pending:
            self.durable = bytes(self.current)
            self.pending.clear()

    def survivor(self, draw: random.Random, sector_bytes: int, newest_odds: float) -> bytes:
        """One of the contents that a power failure may leave."""
        content = bytearray(self.durable)
        sizes = [len(content)]
        versions: dict[int, list[bytes]] = {}
        for op in self.pending:
            change(content, op)
            sizes.append(len(content))
            for sector in touched(op, sector_bytes):
                start = sector * sector_bytes
                versions.setdefault(sector, []).append(bytes(content[start : start + sector_bytes]))
        found = bytearray(self.durable)
        for sector, contents in versions.items():
            start = sector * sector_bytes
            known = [self.durable[start : start + sector_bytes], *contents]
            chosen = known[-1] if draw.random() < newest_odds else draw.choice(known)
            change(found, Write("", start, chosen))
        change(found, Truncate("", sizes[-1] if draw.random() < newest_odds else draw.choice(sizes)))
        return bytes(found)


def change(content: bytearray, op: Write | Truncate) -> None:
    end = op.offset + len(op.data) if isinstance(op, Write) else op.size
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if isinstance(op, Write):
        content[op.offset : end] = op.data
    else:
        del content[op.size :]


def touched(op: Write | Truncate, sector_bytes: int) -> range:
    """The sectors that a write changes."""
    if isinstance(op, Truncate) or not op.data:
        return range(0)
    return range(op.offset // sector_bytes, (op.offset + len(op.data) - 1) // sector_bytes + 1)


class Disk:
    """A folder, as its operations happen one by one."""

    def __init__(self, files: Image) -> None:
        self._current = {name: Inode.of(content) for name, content in files.items()}
        self._durable = dict(self._current)

    def apply(self, op: Op) -> None:
        match op:
            case Create(file):
                self._current[file] = Inode()
            case Write(file) | Truncate(file):
                self._current[file].apply(op)
            case Sync(file, directory):
                self._current[file].sync()
                if directory:
                    self._durable = dict(self._current)
            case Delete(file, directory):
                del self._current[file]
                if directory:
                    self._durable.pop(file, None)

    def killed(self) -> Image:
        return {name: bytes(inode.current) for name, inode in self._current.items()}

    def dropped(self) -> Image:
        """Nothing but what was synced."""
        return {name: inode.durable for name, inode in self._durable.items()}

    def torn(self, draw: random.Random) -> Image:
        sector_bytes, newest_odds = draw.choice(SECTORS_BYTES), draw.choice(NEWEST_ODDS)
        names = sorted(self._current.keys() | self._durable.keys())
        found = {name: self._entry(name, draw, newest_odds) for name in names}
        return {
            name: inode.survivor(draw, sector_bytes, newest_odds) for name, inode in found.items() if inode is not None
        }

    def _entry(self, name: str, draw: random.Random, newest_odds: float) -> Inode | None:
        current, durable = self._current.get(name), self._durable.get(name)
        return current if current is durable or draw.random() < newest_odds else durable


def with_stale_index(image: Image, draw: random.Random) -> Image:
    """The WAL's index is no part of what is durable: whatever lies there must be ignored."""
    return {**image, "journal.db-shm": draw.randbytes(32_768)}
