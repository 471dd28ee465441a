from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import apsw
import pytest

from torana_server.adapters.sqlite.secrets import APPLICATION_ID, SqliteSecretStore
from torana_server.core.clock import Micros
from torana_server.core.errors import Reason, UnavailableError, VaultError
from torana_server.vault import Action, AuditRecord, NewVersion

AUDIT = AuditRecord(Micros(1), "a", "alice", Action.WRITE, "db")
NEW = NewVersion("a", "db", Micros(1), lambda version: b"sealed %d" % version)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault.db"


async def test_the_file_and_its_log_are_private(path: Path) -> None:
    store = await SqliteSecretStore.open(path)
    await store.put(NEW, AUDIT)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await store.close()
    assert modes == {"vault.db": 0o600, "vault.db-wal": 0o600, "vault.db-shm": 0o600}


async def test_rows_are_there_after_reopening(path: Path) -> None:
    store = await SqliteSecretStore.open(path)
    await store.put(NEW, AUDIT)
    await store.close()
    store = await SqliteSecretStore.open(path)
    row = await store.get("a", "db", None)
    await store.close()
    assert row is not None
    assert row.envelope == b"sealed 1"


async def test_two_stores_share_one_file(path: Path) -> None:
    one, two = await SqliteSecretStore.open(path), await SqliteSecretStore.open(path)
    infos = await asyncio.gather(*(store.put(NEW, AUDIT) for store in (one, two) * 10))
    epochs = (await one.epoch(), await two.epoch())
    await one.close()
    await two.close()
    assert sorted(info.version for info in infos) == list(range(1, 21))
    assert epochs == (20, 20)


async def test_the_schema_is_numbered_and_marked(path: Path) -> None:
    await (await SqliteSecretStore.open(path)).close()
    connection = apsw.Connection(str(path))
    assert (connection.pragma("application_id"), connection.pragma("user_version")) == (APPLICATION_ID, 1)
    connection.close()


async def test_refuses_a_file_of_a_later_release(path: Path) -> None:
    await (await SqliteSecretStore.open(path)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(VaultError, match="later release"):
        await SqliteSecretStore.open(path)


async def test_refuses_another_programs_database(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(VaultError, match="something else"):
        await SqliteSecretStore.open(path)


async def test_a_file_that_is_no_database_is_named_as_damaged(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"not a database, by any means" * 100)
    with pytest.raises(VaultError) as caught:
        await SqliteSecretStore.open(path)
    assert caught.value.reason is Reason.SECRET_CORRUPT


async def test_a_missing_directory_is_an_error_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        await SqliteSecretStore.open(tmp_path / "nowhere" / "vault.db")
    assert str(tmp_path) not in str(caught.value)


async def test_driver_errors_become_unavailable_without_their_text(path: Path) -> None:
    store = await SqliteSecretStore.open(path)
    other = apsw.Connection(str(path))
    other.execute("DROP TABLE audit")
    other.close()
    with pytest.raises(UnavailableError) as caught:
        await store.put(NEW, AUDIT)
    gone = await store.get("a", "db", None)
    await store.close()
    assert "audit" not in str(caught.value)
    assert gone is None, "a change without its audit record is rolled back"
