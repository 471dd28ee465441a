"""What the SQLite journal does when its disk fails. What holds in good times is in tests/contract."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from contract.journal_parts import ANYTHING, COMPLETED, DEFINITION, NO_LIMIT, Watcher, events, summary
from torana_server.adapters.sqlite import writer as writer_module
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.core.errors import Reason, StateError, StepError, UnavailableError
from torana_server.execution.events import EventKind
from torana_server.execution.ports import StoredEvent
from unit.adapters.sqlite.faulty_vfs import FaultyVfs


async def opened(folder: Path, watcher: Watcher | None = None, vfs: FaultyVfs | None = None) -> SqliteJournal:
    journal = SqliteJournal(folder, vfs=vfs.name if vfs else None)
    await journal.open(watcher or Watcher())
    return journal


async def test_a_full_disk_fails_the_writes_that_wait_and_no_later_ones(tmp_path: Path) -> None:
    vfs, watcher = FaultyVfs("-wal"), Watcher()
    journal = await opened(tmp_path, watcher, vfs)
    fence = (await journal.create(summary("e1"), events(1, 1))).fence
    vfs.write = apsw.FullError("injected")
    appends = [journal.append("e1", 1, events(2, 2), fence), journal.create(summary("e2"), events(1, 1))]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, UnavailableError)
        assert outcome.reason is Reason.JOURNAL_UNAVAILABLE
        assert outcome.retry_after_s
    assert vfs.struck
    vfs.write = None
    assert await journal.get("e2") is None
    await journal.append("e1", 1, events(2, 2), fence, COMPLETED)
    assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 2)
    assert len(watcher.commits) == 2
    assert watcher.failures == []
    await journal.close()


@pytest.mark.parametrize("fault", ["sync", "write"])
async def test_after_a_failed_commit_nothing_is_written_any_more(tmp_path: Path, fault: str) -> None:
    vfs, watcher = FaultyVfs("-wal"), Watcher()
    journal = await opened(tmp_path, watcher, vfs)
    await journal.put_definition(DEFINITION)
    fence = (await journal.create(summary("e1"), events(1, 1))).fence
    setattr(vfs, fault, apsw.IOError("injected"))
    with pytest.raises(UnavailableError, match="stopping"):
        await journal.append("e1", 1, events(2, 2), fence)
    setattr(vfs, fault, None)
    with pytest.raises(UnavailableError, match="stopping"):
        await journal.append("e1", 1, events(2, 2), fence)
    with pytest.raises(UnavailableError, match="stopping"):
        await journal.renew()
    assert [type(error) for error in watcher.failures] == [apsw.IOError]
    assert [commit.through_sequence for commit in watcher.commits] == [1]
    await journal.close()

    again = await opened(tmp_path)
    [claim] = await again.claim(10, ANYTHING)
    latest = claim.summary.latest_sequence
    assert latest in (1, 2), "the commit that failed is there as a whole or not at all"
    assert await again.read("e1", 0, **NO_LIMIT) == events(1, latest)
    await again.append("e1", latest, events(latest + 1, latest + 1), claim.fence, COMPLETED)
    await again.close()


async def test_a_failed_fsync_of_a_checkpoint_stops_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 1)
    vfs, watcher = FaultyVfs("journal.db"), Watcher()
    journal = await opened(tmp_path, watcher, vfs)
    vfs.sync = apsw.IOError("injected")
    await journal.create(summary("e1"), events(1, 1))
    with pytest.raises(UnavailableError, match="stopping"):
        await journal.create(summary("e2"), events(1, 1))
    assert len(watcher.failures) == 1
    vfs.sync = None
    await journal.close()
    again = await opened(tmp_path)
    assert await again.read("e1", 0, **NO_LIMIT) == events(1, 1)
    await again.close()


async def test_checkpoints_keep_the_wal_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 20)
    journal = await opened(tmp_path)
    for n in range(200):
        await journal.create(summary(f"e{n:03}"), events(1, 1, size=4_000))
    assert (tmp_path / "journal.db-wal").stat().st_size < 100 * 4_096
    await journal.close()
    assert not (tmp_path / "journal.db-wal").exists()


async def test_below_the_reserve_nothing_starts_but_what_runs_goes_on(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.put_definition(DEFINITION)
    await journal.create(summary("e1", idempotency_key="k"), events(1, 1))
    await journal.close()
    small = SqliteJournal(tmp_path, reserve_bytes=1 << 62)
    await small.open(Watcher())
    with pytest.raises(UnavailableError, match="nearly full") as refused:
        await small.create(summary("e2"), events(1, 1))
    assert refused.value.retry_after_s
    assert not (await small.create(summary("e3", idempotency_key="k"), events(1, 1))).created
    [claim] = await small.claim(10, ANYTHING)
    await small.append("e1", 1, events(2, 2), claim.fence, COMPLETED)
    await small.close()


async def test_a_value_that_sqlite_cannot_hold_fails_alone(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    fence = (await journal.create(summary("e1"), events(1, 1))).fence
    lone_surrogate = StoredEvent(2, EventKind.STEP_LOG, "\ud800", b"")
    bad, good = await asyncio.gather(
        journal.append("e1", 1, [lone_surrogate], fence),
        journal.create(summary("e2"), events(1, 1)),
        return_exceptions=True,
    )
    assert isinstance(bad, StepError)
    assert bad.reason is Reason.VALUE_NOT_STORABLE
    assert not isinstance(good, BaseException)
    await journal.append("e1", 1, events(2, 2), fence)
    await journal.close()


async def test_only_executions_in_flight_take_memory(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    fences = [(await journal.create(summary(f"e{n}"), events(1, 1))).fence for n in range(3)]
    ledger = journal._opened.writer._ledger  # type: ignore[union-attr]
    assert ledger.executions_owned == 3
    await journal.append("e0", 1, events(2, 2), fences[0], COMPLETED)
    await journal.release("e1", fences[1])
    assert ledger.executions_owned == 1
    await journal.close()


async def test_a_second_opener_is_told_that_the_journal_is_in_use(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    with pytest.raises(StateError, match=str(tmp_path)) as refused:
        await opened(tmp_path)
    assert refused.value.reason is Reason.JOURNAL_IN_USE
    await journal.close()
    await (await opened(tmp_path)).close()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=rf"{tmp_path}/file/data cannot be used \(Not a directory\)"):
        await opened(tmp_path / "file" / "data")


async def test_a_damaged_file_is_a_clear_error_and_lets_go_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database" * 1_000)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="damaged; restore it from a backup"):
            await opened(tmp_path)


async def test_a_damaged_page_is_a_clear_error_to_its_readers(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.create(summary("e1"), events(1, 50, size=4_000))
    await journal.close()
    file = tmp_path / "journal.db"
    content = bytearray(file.read_bytes())
    content[4_096 * 2 :] = b"\xff" * (len(content) - 4_096 * 2)
    file.write_bytes(content)
    with pytest.raises(UnavailableError, match="damaged; restore it from a backup"):
        await opened(tmp_path)


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "journal"
    journal = await opened(folder)
    await journal.create(summary("e1"), events(1, 1))
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(["journal.db", "journal.db-wal", "journal.db-shm", "journal.lock"], 0o600)
    await journal.close()


async def test_reads_wait_for_no_write(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.create(summary("e1"), events(1, 1))
    blocker = apsw.Connection(str(tmp_path / "journal.db"))
    blocker.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(journal.create(summary("e2"), events(1, 1)))
    assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 1)
    assert not waiting.done()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert (await waiting).created
    await journal.close()
