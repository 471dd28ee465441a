"""Who has a data folder is told without disturbing anybody."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from torana_server.adapters.sqlite import inspection
from torana_server.adapters.sqlite.folder import LOCK_FILE


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the system tells of locks: process 4711 has a file with the number of the lock file."""
    (tmp_path / LOCK_FILE).touch()
    inode = (tmp_path / LOCK_FILE).stat().st_ino
    path = tmp_path / "locks"
    path.write_text(f"1: FLOCK  ADVISORY  WRITE 4711 08:01:{inode} 0 EOF\n", "ascii")
    monkeypatch.setattr(inspection, "LOCKS", path)
    return path


@pytest.fixture
def held(tmp_path: Path) -> Iterator[None]:
    """The lock is somebody's. It belongs to what was opened, so a second opening meets it, also in this process."""
    with (tmp_path / LOCK_FILE).open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def test_a_folder_without_a_lock_file_is_nobodys(tmp_path: Path) -> None:
    assert inspection.holder_of(tmp_path) is None


def test_the_process_that_holds_the_lock_is_named(tmp_path: Path, locks, held) -> None:
    assert inspection.holder_of(tmp_path) == 4711


def test_a_lock_on_a_file_of_the_same_number_on_another_disk_means_nothing(tmp_path: Path, locks) -> None:
    assert inspection.holder_of(tmp_path) is None


def test_a_lock_is_told_also_where_the_system_does_not_say_whose_it_is(tmp_path: Path, locks, held) -> None:
    locks.unlink()
    assert inspection.holder_of(tmp_path) == 0
