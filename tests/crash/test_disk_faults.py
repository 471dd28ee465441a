"""Disks that are full or read-only, and files that were damaged, under the SQLite journal."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import torana
from contract.journal_parts import Watcher
from crash.images.checker import check_file, held, visible
from crash.images.disk import Disk, Image
from crash.images.promises import Acknowledged, Begun, Promised, moments
from crash.images.workload import CODEC, record
from crash.mounts import fill, make_read_only, small_disk
from served.effects import recorded
from servers import ServerProcess, gates, running_server
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.core.errors import Reason, UnavailableError
from torana_server.core.limits import MIB
from torana_server.execution.state import fold

PAGE_BYTES = 4_096
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
LEFT_BY_SEED = 2
HASTY = torana.ReconnectPolicy(initial_s=0.02, max_s=0.2)
pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        yield disk


@pytest.fixture
def larger_disk(tmp_path: Path) -> Iterator[Path]:
    """A server looks for room once in a second. What it writes until then must not fill this disk."""
    with small_disk(tmp_path / "larger", 48 * MIB) as disk:
        yield disk


async def test_on_a_full_disk_what_runs_waits_and_goes_on_by_itself_when_there_is_room(
    disk: Path, effects: Path
) -> None:
    with running_server("served.effects", disk / "data", disk_reserve_bytes=0) as server:
        async with gates() as doors, torana.Client(server.address, reconnect=HASTY) as client:
            waiting = {"effects": str(effects), "gates": doors.port, "gate": "full"}
            running = (await client.start_workflow("waits", waiting)).id
            await doors.arrived("full")
            ballast = fill(disk)
            accepted, refused = await accepted_until_refused(client, effects)
            assert refused.reason == "JOURNAL_UNAVAILABLE"
            assert "disk is full; free some space" in str(refused)
            assert refused.retry_after_s
            doors.open("full")
            with pytest.raises(torana.errors.UnavailableError):
                await client.put_secret("name", {"token": "never stored"})
            assert (await client.get_execution(running)).state == "running", "what is there can be read"
            ballast.unlink()
            for execution in (running, *accepted):
                assert (await client.watch(execution).result()).is_success
                journal = [event async for event in client.watch(execution)]
                assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
            assert (await client.execute("tiny", {"effects": str(effects)}).result()).is_success
            await client.put_secret("name", {"token": "stored"})
        server.stop()
        assert "waits for the journal" in server.log.read_text()
    assert {act.attempt for act in recorded(effects)} == {1}, "waiting is no interruption"
    check_file(disk / "data" / "journal.db")


async def accepted_until_refused(
    client: torana.Client, effects: Path
) -> tuple[list[str], torana.errors.UnavailableError]:
    """The journal's files may have some room left in them."""
    accepted: list[str] = []
    while True:
        try:
            accepted.append((await client.start_workflow("tiny", {"effects": str(effects)})).id)
        except torana.errors.UnavailableError as refused:
            return accepted, refused


async def test_before_the_disk_is_full_nothing_new_starts_and_what_runs_finishes(
    larger_disk: Path, effects: Path
) -> None:
    with running_server("served.effects", larger_disk / "data", disk_reserve_bytes=32 * MIB) as server:
        async with gates() as doors, torana.Client(server.address, reconnect=HASTY) as client:
            waiting = {"effects": str(effects), "gates": doors.port, "gate": "low"}
            running = (await client.start_workflow("waits", waiting)).id
            await doors.arrived("low")
            ballast = fill(larger_disk, left_bytes=24 * MIB)
            _, refused = await accepted_until_refused(client, effects)
            assert "nearly full: what runs may finish, nothing new starts" in str(refused)
            doors.open("low")
            assert (await client.watch(running).result()).is_success
            ballast.unlink()
        server.stop()


async def test_a_server_that_is_killed_on_a_full_disk_recovers_when_there_is_room(disk: Path, effects: Path) -> None:
    with running_server("served.effects", disk / "data", disk_reserve_bytes=0) as server:
        async with torana.Client(server.address, reconnect=HASTY) as client:
            done = await client.execute("tiny", {"effects": str(effects)}).result()
            ballast = fill(disk)
            accepted, _ = await accepted_until_refused(client, effects)
        server.kill()
        ballast.unlink()
        server.start()
        async with torana.Client(server.address, reconnect=HASTY) as client:
            assert (await client.get_execution(done.execution_id)).state == "completed"
            for execution in accepted:
                assert (await client.watch(execution).result()).is_success
        server.stop()


async def test_a_journal_on_a_read_only_disk_is_refused_with_words_that_help(disk: Path) -> None:
    folder = disk / "data"
    journal = SqliteJournal(folder)
    await journal.open(Watcher())
    await journal.close()
    make_read_only(disk)
    for unusable in (folder, disk / "none yet"):
        with pytest.raises(
            UnavailableError, match=r"cannot be used \(Read-only file system\); give the server"
        ) as told:
            await SqliteJournal(unusable).open(Watcher())
        assert told.value.reason is Reason.JOURNAL_UNAVAILABLE


def test_a_server_on_a_read_only_disk_says_so_and_ends(disk: Path) -> None:
    make_read_only(disk)
    server = ServerProcess("served.effects", disk / "data")
    server.log = disk.with_name("log")
    with pytest.raises(RuntimeError, match="Read-only file system"):
        server.start()


@dataclass(frozen=True, slots=True)
class Left:
    """What a killed server left behind: its files, and every state that it ever acknowledged, the last one last."""

    image: Image
    states: list[Promised]

    def latest(self) -> Promised:
        return self.states[-1]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """With a full WAL, and a file that earlier checkpoints filled."""
    log = record(LEFT_BY_SEED, tmp_path_factory.mktemp("left") / "data", executions=12)
    closing = next(place for place in range(len(log) - 1, 0, -1) if isinstance(log[place], Acknowledged)) + 1
    disk = Disk({"journal.db": b""})
    for entry in log[:closing]:
        if not isinstance(entry, Begun | Acknowledged):
            disk.apply(entry)
    image = disk.killed()
    assert len(image["journal.db-wal"]) > 20 * PAGE_BYTES < len(image["journal.db"])
    return Left(image, [moment.promised for moment in moments(log[:closing], Promised())])


def write(image: Image, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in image.items():
        (folder / name).write_bytes(content)


async def opened(folder: Path, image: Image) -> SqliteJournal:
    write(image, folder)
    journal = SqliteJournal(folder, reserve_bytes=0, readers=1)
    await journal.open(Watcher())
    return journal


async def found_in(folder: Path, image: Image, left: Left) -> Promised:
    """Everything the journal tells. Raises UnavailableError when it notices damage."""
    journal = await opened(folder, image)
    try:
        return await held(journal, left.latest().definitions)
    finally:
        await journal.close()


def cut(image: Image, name: str, size: int) -> Image:
    return {**image, name: image[name][:size]}


def overwritten(image: Image, name: str, offset: int, by: bytes) -> Image:
    content = image[name]
    return {**image, name: content[:offset] + by + content[offset + len(by) :]}


async def test_the_files_of_a_killed_server_hold_all_that_it_acknowledged(left: Left, tmp_path: Path) -> None:
    assert visible(await found_in(tmp_path / "copy", left.image, left)) == visible(left.latest())


async def test_a_wal_that_was_cut_short_or_damaged_holds_whole_commits_up_to_there(left: Left, tmp_path: Path) -> None:
    draw, wal = random.Random(1), "journal.db-wal"
    states = [visible(state) for state in left.states]
    size = len(left.image[wal])
    for offset in sorted(draw.sample(range(size), 40)):
        for image in (cut(left.image, wal, offset), overwritten(left.image, wal, offset, draw.randbytes(8))):
            found = visible(await found_in(tmp_path / "copy", image, left))
            assert found in states, f"damage at byte {offset} of the WAL left part of a commit"
            check_file(tmp_path / "copy" / "journal.db")


async def test_a_page_that_a_checkpoint_tore_is_taken_from_the_wal(left: Left, tmp_path: Path) -> None:
    pages = pages_in_wal(left.image["journal.db-wal"])
    torn = bytes(512)
    for page in pages:
        image = overwritten(left.image, "journal.db", (page - 1) * PAGE_BYTES + 1_024, torn)
        assert await outcome(image, left, tmp_path) == "whole"
    last = max(pages)
    assert await outcome(cut(left.image, "journal.db", last * PAGE_BYTES - 512), left, tmp_path) == "whole"


def pages_in_wal(wal: bytes) -> set[int]:
    """Numbers of the pages in the frames since the WAL was last begun: those with its salt."""
    frames = range(WAL_HEADER_BYTES, len(wal), FRAME_HEADER_BYTES + PAGE_BYTES)
    return {int.from_bytes(wal[at : at + 4], "big") for at in frames if wal[at + 8 : at + 16] == wal[16:24]}


async def test_a_page_that_was_overwritten_is_never_read_as_if_it_were_right(left: Left, tmp_path: Path) -> None:
    """Every page of the file in turn. With the WAL gone nothing heals it. SQLite notices, but for the later pages of
    long events, which hold no structure: those do not fold."""
    still = {"journal.db": await checkpointed(left, tmp_path / "whole")}
    pages = len(still["journal.db"]) // PAGE_BYTES
    outcomes = [
        await outcome(overwritten(still, "journal.db", page * PAGE_BYTES, b"\xff" * PAGE_BYTES), left, tmp_path)
        for page in range(pages)
    ]
    assert "damaged" in outcomes
    assert set(outcomes) <= {"whole", "damaged", "unreadable"}, f"pages were read wrongly: {outcomes}"


async def checkpointed(left: Left, folder: Path) -> bytes:
    await (await opened(folder, left.image)).close()
    return (folder / "journal.db").read_bytes()


async def outcome(image: Image, left: Left, tmp_path: Path) -> str:
    """One of "whole", "damaged" (as readers are told), "unreadable" (events that do not fold) and "wrong"."""
    try:
        found = await found_in(tmp_path / "copy", image, left)
    except UnavailableError as told:
        return "damaged" if "restore it from a backup" in str(told) else f"unclear: {told}"
    if visible(found) == visible(left.latest()):
        return "whole"
    try:
        for kept in found.executions.values():
            fold(CODEC.decode(event.data) for event in kept.events)
    except ValueError:
        return "unreadable"
    return "wrong"
