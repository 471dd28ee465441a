"""The contract of `SecretStore`. Every adapter is a parameter of `store`; none is excluded from anything."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from torana_server.adapters.memory.secrets import MemorySecretStore
from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.secrets import PostgresSecretStore
from torana_server.adapters.sqlite.secrets import SqliteSecretStore
from torana_server.core.clock import Micros
from torana_server.core.errors import UnavailableError
from torana_server.vault import (
    Action,
    AuditRecord,
    NewVersion,
    Outcome,
    SecretInfo,
    SecretRow,
    SecretStore,
    TenantKeyRow,
    VersionInfo,
)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Awaitable[SecretStore]:
    if request.param == "memory":
        return in_memory()
    if request.param == "sqlite":
        return SqliteSecretStore.open(tmp_path / "v.db")
    return PostgresSecretStore.open(Place(request.getfixturevalue("postgres_url"), "torana"))


async def in_memory() -> SecretStore:
    return MemorySecretStore()


@pytest.fixture
async def store(opening: Awaitable[SecretStore]) -> AsyncIterator[SecretStore]:
    opened = await opening
    yield opened
    await opened.close()


def record(action: Action = Action.WRITE, name: str = "db", tenant: str = "a", at: int = 1) -> AuditRecord:
    return AuditRecord(Micros(at), tenant, "alice", action, name)


def new(name: str = "db", tenant: str = "a", at: int = 1, seal: Callable[[int], bytes] | None = None) -> NewVersion:
    return NewVersion(tenant, name, Micros(at), seal or (lambda version: b"sealed %d" % version))


async def put(store: SecretStore, name: str = "db", tenant: str = "a", at: int = 1) -> SecretInfo:
    return await store.put(new(name, tenant, at), record(name=name, tenant=tenant, at=at))


async def without_sequence(store: SecretStore, tenant: str = "a") -> list[AuditRecord]:
    return [dataclasses.replace(r, sequence=0) for r in await store.audit(tenant, None, 100)]


async def test_versions_count_from_one_and_seal_is_given_each(store: SecretStore) -> None:
    assert await put(store, at=5) == SecretInfo("db", 1, Micros(5), Micros(5))
    assert await put(store, at=9) == SecretInfo("db", 2, Micros(5), Micros(9))
    assert await store.get("a", "db", 1) == SecretRow("a", "db", 1, b"sealed 1")
    assert await store.get("a", "db", None) == SecretRow("a", "db", 2, b"sealed 2")
    assert await store.get("a", "db", 3) is None


async def test_concurrent_puts_each_get_their_own_version(store: SecretStore) -> None:
    infos = await asyncio.gather(*(put(store) for _ in range(20)))
    assert sorted(info.version for info in infos) == list(range(1, 21))


async def test_expiry_is_stored_with_its_version(store: SecretStore) -> None:
    expiring = dataclasses.replace(new(), expire_time=Micros(77))
    assert (await store.put(expiring, record())).expire_time == 77
    row, info = await store.get("a", "db", None), await store.describe("a", "db")
    assert row is not None
    assert info is not None
    assert row.expire_time == info.expire_time == 77
    assert (await put(store)).expire_time is None


async def test_nothing_is_stored_when_sealing_fails(store: SecretStore) -> None:
    def fail(version: int) -> bytes:
        raise ZeroDivisionError(version)

    with pytest.raises(ZeroDivisionError):
        await store.put(new(seal=fail), record())
    assert await store.describe("a", "db") is None
    assert await store.audit("a", None, 10) == []
    assert await store.epoch() == 0
    assert (await put(store)).version == 1


async def test_a_deleted_secret_is_gone_with_all_versions(store: SecretStore) -> None:
    await put(store)
    await put(store)
    assert await store.delete("a", "db", record(Action.DELETE))
    assert [await store.get("a", "db", version) for version in (1, 2, None)] == [None, None, None]
    assert await store.describe("a", "db") is None
    assert await store.list("a", "", 10) == []


async def test_deleting_what_is_absent_changes_nothing(store: SecretStore) -> None:
    await put(store)
    await store.delete("a", "db", record(Action.DELETE))
    epoch, audit = await store.epoch(), await store.audit("a", None, 10)
    assert not await store.delete("a", "db", record(Action.DELETE))
    assert not await store.delete("a", "never", record(Action.DELETE))
    assert (await store.epoch(), await store.audit("a", None, 10)) == (epoch, audit)


async def test_versions_go_on_counting_after_a_deletion(store: SecretStore) -> None:
    await put(store, at=1)
    await put(store, at=2)
    await store.delete("a", "db", record(Action.DELETE))
    assert await put(store, at=30) == SecretInfo("db", 3, Micros(30), Micros(30))
    assert await store.get("a", "db", 1) is None


async def test_versions_are_listed_latest_first_in_pages(store: SecretStore) -> None:
    await put(store, at=1)
    await store.put(dataclasses.replace(new(at=2), expire_time=Micros(77)), record())
    await put(store, at=3)
    latest, earlier, first = VersionInfo(3, Micros(3)), VersionInfo(2, Micros(2), Micros(77)), VersionInfo(1, Micros(1))
    assert await store.versions("a", "db", None, 2) == [latest, earlier]
    assert await store.versions("a", "db", 2, 2) == [first]
    assert await store.versions("b", "db", None, 2) == []


async def test_a_deleted_secret_has_no_versions_and_a_new_one_only_its_own(store: SecretStore) -> None:
    await put(store, at=1)
    await store.delete("a", "db", record(Action.DELETE))
    assert await store.versions("a", "db", None, 9) == []
    await put(store, at=5)
    assert await store.versions("a", "db", None, 9) == [VersionInfo(2, Micros(5))]


async def test_tenants_do_not_see_each_other(store: SecretStore) -> None:
    await put(store, tenant="a")
    assert await store.get("b", "db", None) is None
    assert await store.describe("b", "db") is None
    assert await store.list("b", "", 10) == []
    assert not await store.delete("b", "db", record(Action.DELETE, tenant="b"))
    assert await store.audit("b", None, 10) == []
    assert (await put(store, tenant="b")).version == 1
    assert await store.get("a", "db", 1) is not None


async def test_lists_by_name_in_pages(store: SecretStore) -> None:
    for name in ("b", "a", "C", "d"):
        await put(store, name)
    first = await store.list("a", "", 3)
    rest = await store.list("a", first[-1].name, 3)
    assert [info.name for info in (*first, *rest)] == ["C", "a", "b", "d"]


async def test_a_change_and_its_audit_record_are_stored_together(store: SecretStore) -> None:
    await put(store, at=1)
    await put(store, at=2)
    await store.delete("a", "db", record(Action.DELETE, at=3))
    assert await without_sequence(store) == [
        dataclasses.replace(record(Action.DELETE, at=3), version=2),
        dataclasses.replace(record(at=2), version=2),
        dataclasses.replace(record(at=1), version=1),
    ]


async def test_the_epoch_grows_with_every_change_of_a_secret(store: SecretStore) -> None:
    epochs = [await store.epoch()]
    await put(store)
    epochs.append(await store.epoch())
    await put(store, tenant="b")
    epochs.append(await store.epoch())
    await store.delete("a", "db", record(Action.DELETE))
    epochs.append(await store.epoch())
    assert epochs == sorted(set(epochs))


async def test_the_first_tenant_key_of_a_version_wins(store: SecretStore) -> None:
    first, second = TenantKeyRow("a", 1, "k1", b"one"), TenantKeyRow("a", 1, "k1", b"two")
    assert await store.tenant_key("a", None) is None
    assert await store.add_tenant_key(first) == first
    assert await store.add_tenant_key(second) == first
    newer = await store.add_tenant_key(TenantKeyRow("a", 2, "k1", b"three"))
    assert await store.tenant_key("a", None) == newer
    assert await store.tenant_key("a", 1) == first
    assert await store.tenant_key("b", None) is None


async def test_a_tenant_key_is_rewrapped_only_if_it_is_as_it_was_read(store: SecretStore) -> None:
    old = await store.add_tenant_key(TenantKeyRow("a", 1, "k1", b"one"))
    changed = TenantKeyRow("a", 1, "k2", b"two")
    rotation = record(Action.ROTATE, name="")
    assert await store.rewrap_tenant_key(old, changed, rotation)
    assert not await store.rewrap_tenant_key(old, TenantKeyRow("a", 1, "k3", b"three"), rotation)
    absent = TenantKeyRow("b", 1, "k1", b"one")
    assert not await store.rewrap_tenant_key(absent, absent, rotation)
    assert await store.tenant_key("a", 1) == changed
    assert await without_sequence(store) == [rotation]


async def test_finds_tenant_keys_to_rewrap_in_pages(store: SecretStore) -> None:
    rows = [TenantKeyRow(tenant, v, "k1", b"x") for tenant in ("a", "b") for v in (1, 2)]
    for row in (*rows, TenantKeyRow("c", 1, "k2", b"x")):
        await store.add_tenant_key(row)
    first = await store.tenant_keys_to_rewrap("k2", None, 3)
    rest = await store.tenant_keys_to_rewrap("k2", (first[-1].tenant, first[-1].version), 3)
    assert [*first, *rest] == rows
    assert await store.tenant_keys_by_key() == {"k1": 4, "k2": 1}


async def test_the_first_canary_of_a_key_wins(store: SecretStore) -> None:
    assert await store.canary("k1") is None
    assert await store.add_canary("k1", b"one") == b"one"
    assert await store.add_canary("k1", b"two") == b"one"
    assert await store.canary("k1") == b"one"
    assert await store.canary("k2") is None


async def test_audit_reads_newest_first_in_pages(store: SecretStore) -> None:
    records = [
        AuditRecord(Micros(i), "a", "bob", Action.READ, "db", None, f"p{i}", Outcome.NOT_FOUND) for i in range(5)
    ]
    await store.append_audit(records)
    first = await store.audit("a", None, 3)
    rest = await store.audit("a", first[-1].sequence, 3)
    assert [r.purpose for r in (*first, *rest)] == ["p4", "p3", "p2", "p1", "p0"]
    assert dataclasses.replace(rest[-1], sequence=0) == records[0]


async def test_old_audit_records_can_be_removed(store: SecretStore) -> None:
    await store.append_audit([record(at=1), record(at=2, tenant="b"), record(at=3)])
    assert await store.trim_audit(Micros(3)) == 2
    assert [r.at for r in await store.audit("a", None, 10)] == [3]
    assert await store.audit("b", None, 10) == []


async def test_a_closed_store_answers_unavailable_and_closes_again(store: SecretStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(UnavailableError):
        await store.get("a", "db", None)
    with pytest.raises(UnavailableError):
        await put(store)


async def test_text_with_any_code_point_comes_back_as_it_was(store: SecretStore) -> None:
    odd = dataclasses.replace(record(tenant="t\x00\x01\U0001f600"), subject="\x00", purpose="a\x01\x00b\x02")
    await store.put(new(tenant=odd.tenant), odd)
    assert await without_sequence(store, odd.tenant) == [dataclasses.replace(odd, version=1)]
    found = await store.get(odd.tenant, "db", None)
    assert found is not None
    assert found.tenant == odd.tenant
