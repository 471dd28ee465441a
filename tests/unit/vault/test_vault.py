"""`SecretManager` over stores that behave. Time is told, never awaited."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest

from torana_server.access import LOCAL
from torana_server.core.clock import Micros, from_datetime
from torana_server.core.errors import (
    InvalidRequestError,
    SecretNotFoundError,
    StateError,
    UnavailableError,
    VaultError,
)
from torana_server.vault import (
    Action,
    AuditRecord,
    Keyring,
    MemorySecretStore,
    NewVersion,
    Outcome,
    SecretInfo,
    SecretManager,
)
from unit.vault.world import ALICE, BOB, CREDENTIALS, KEYRING, NOON, CountingStore, Vault, key, outcomes


async def test_a_stored_secret_reads_back() -> None:
    manager = SecretManager(cache_ttl=300)
    info = await manager.store_secret("db", CREDENTIALS, encrypt=True)
    assert (info.name, info.version) == ("db", 1)
    assert await manager.get_secret("db") == CREDENTIALS
    await manager.close()


async def test_storing_again_adds_a_version_and_keeps_the_old(vault: Vault) -> None:
    await vault.manager.store_secret("db", {"n": 1})
    vault.time.elapsed_s = 1.0
    info = await vault.manager.store_secret("db", {"n": 2})
    start = from_datetime(NOON)
    assert info == SecretInfo("db", 2, start, Micros(start + 1_000_000))
    assert await vault.manager.get_secret("db") == {"n": 2}
    assert await vault.manager.get_secret("db", 1) == {"n": 1}


async def test_a_change_is_seen_by_the_next_read_despite_the_cache(manager: SecretManager) -> None:
    for n in range(3):
        await manager.store_secret("db", {"n": n})
        assert await manager.get_secret("db") == {"n": n}
        assert await manager.current_version(LOCAL, "db") == n + 1
    await manager.delete_secret("db")
    with pytest.raises(SecretNotFoundError):
        await manager.get_secret("db")


async def test_read_gives_the_secret_and_its_version(manager: SecretManager) -> None:
    await manager.store_secret("db", CREDENTIALS, principal=ALICE)
    secret, version = await manager.read(ALICE, "db", purpose="execution 1, resource main")
    assert (secret.reveal(), version) == (CREDENTIALS, 1)


async def test_nobody_can_change_what_another_reads(manager: SecretManager) -> None:
    await manager.store_secret("db", CREDENTIALS)
    (await manager.get_secret("db"))["password"] = "changed"
    assert await manager.get_secret("db") == CREDENTIALS


async def test_tenants_have_secrets_of_the_same_name(manager: SecretManager) -> None:
    await manager.store_secret("db", {"n": 1}, principal=ALICE)
    with pytest.raises(SecretNotFoundError):
        await manager.get_secret("db", principal=BOB)
    await manager.store_secret("db", {"n": 2}, principal=BOB)
    assert await manager.get_secret("db", principal=ALICE) == {"n": 1}
    assert await manager.list_secrets(principal=LOCAL) == []
    assert [r.tenant for r in await manager.audit(principal=BOB)] == ["other"] * 2


async def test_absent_secrets_are_not_found(manager: SecretManager) -> None:
    await manager.store_secret("db", {"n": 1})
    with pytest.raises(SecretNotFoundError, match="secret 'nope' does not exist") as caught:
        await manager.get_secret("nope")
    assert caught.value.metadata == {"secret": "nope"}
    with pytest.raises(SecretNotFoundError, match="version 2 of secret 'db'"):
        await manager.get_secret("db", 2)
    for call in (manager.delete_secret, manager.describe_secret):
        with pytest.raises(SecretNotFoundError):
            await call("nope")
    with pytest.raises(SecretNotFoundError):
        await manager.current_version(LOCAL, "nope")


@pytest.mark.parametrize("name", ["", "9lives", "a/b", "x" * 129, "na me"])
async def test_names_are_checked_everywhere(manager: SecretManager, name: str) -> None:
    calls = (
        manager.store_secret(name, CREDENTIALS),
        manager.get_secret(name),
        manager.delete_secret(name),
        manager.describe_secret(name),
        manager.read(LOCAL, name, purpose=""),
        manager.current_version(LOCAL, name),
    )
    for call in calls:
        with pytest.raises(InvalidRequestError) as caught:
            await call
        assert caught.value.violations[0].path == "name"


async def test_plaintext_storage_is_refused(manager: SecretManager) -> None:
    with pytest.raises(InvalidRequestError, match="no plaintext"):
        await manager.store_secret("db", CREDENTIALS, encrypt=False)
    assert await manager.list_secrets() == []


async def test_the_store_holds_no_plaintext(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    held = repr(vars(vault.store))
    assert "envelope" in held
    assert "hunter22" not in held
    assert '"user"' not in held


async def test_lists_and_describes_without_values(manager: SecretManager) -> None:
    for name in ("b", "a", "c"):
        await manager.store_secret(name, CREDENTIALS)
    await manager.store_secret("a", CREDENTIALS)
    listed = await manager.list_secrets()
    assert [(info.name, info.version) for info in listed] == [("a", 2), ("b", 1), ("c", 1)]
    assert await manager.list_secrets(after="a", limit=1) == [listed[1]]
    assert await manager.describe_secret("a") == listed[0]


async def test_lists_past_one_page_of_the_store(manager: SecretManager) -> None:
    for n in range(1_001):
        await manager.store_secret(f"s{n:04}", {"n": n})
    assert [info.name for info in await manager.list_secrets()] == [f"s{n:04}" for n in range(1_001)]


async def test_an_expired_secret_is_not_found_even_when_cached(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS, expire_time=NOON + timedelta(seconds=1))
    assert await vault.manager.get_secret("db") == CREDENTIALS
    vault.time.elapsed_s = 1.0
    with pytest.raises(SecretNotFoundError, match="expired at 2030-01-01T12:00:01"):
        await vault.manager.get_secret("db")
    assert (await outcomes(vault.manager))[-1] == ("read", None, "expired")


@pytest.mark.parametrize(("expiry", "problem"), [(NOON, "not in the future"), (NOON.replace(tzinfo=None), "timezone")])
async def test_an_expiry_is_a_moment_to_come(manager: SecretManager, expiry: datetime, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        await manager.store_secret("db", CREDENTIALS, expire_time=expiry)


# --- cache


async def test_reads_within_the_ttl_do_not_ask_the_store(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    for _ in range(10):
        await vault.manager.get_secret("db")
    assert vault.store.gets == 1


async def test_another_process_sees_a_change_after_the_next_poll(vault: Vault) -> None:
    other = SecretManager()
    await other.open(vault.store, KEYRING)
    await other.store_secret("db", {"n": 1})
    assert await vault.manager.get_secret("db") == {"n": 1}
    await other.store_secret("db", {"n": 2})
    vault.time.elapsed_s = 2.0
    assert await vault.manager.get_secret("db") == {"n": 2}


async def test_cached_secrets_are_served_while_the_store_is_away(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    await vault.manager.get_secret("db")
    vault.store.away = True
    vault.time.elapsed_s = 10.0
    assert await vault.manager.get_secret("db") == CREDENTIALS
    assert "cannot be seen" in caplog.text


async def test_a_cancelled_change_still_drops_what_was_cached(vault: Vault) -> None:
    await vault.manager.store_secret("db", {"n": 1})
    await vault.manager.get_secret("db")
    entered, gate = asyncio.Event(), asyncio.Event()
    put = vault.store.put

    async def slow_put(new: NewVersion, audit: AuditRecord) -> SecretInfo:
        entered.set()
        await gate.wait()
        return await put(new, audit)

    vault.store.put = slow_put  # type: ignore[method-assign]
    change = asyncio.create_task(vault.manager.store_secret("db", {"n": 2}))
    await entered.wait()
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
    gate.set()
    vault.store.put = put  # type: ignore[method-assign]
    assert await vault.manager.store_secret("other", {"n": 0})
    assert await vault.manager.get_secret("db") == {"n": 2}


@pytest.mark.parametrize("settings", [{"cache_ttl": -1}, {"cache_ttl": 86_401}, {"cache_entries": 0}])
def test_settings_are_bounded(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        SecretManager(**settings)


# --- audit


async def test_every_action_is_audited_with_its_outcome(manager: SecretManager) -> None:
    await manager.store_secret("db", CREDENTIALS, principal=ALICE)
    for _ in range(2):
        await manager.get_secret("db", principal=ALICE, purpose="a look")
    await manager.rotate_key(principal=ALICE)
    await manager.delete_secret("db", principal=ALICE)
    with pytest.raises(SecretNotFoundError):
        await manager.delete_secret("db", principal=ALICE)
    with pytest.raises(SecretNotFoundError):
        await manager.get_secret("db", principal=ALICE)
    assert sorted(await outcomes(manager, ALICE), key=str) == [
        ("delete", 1, "ok"),
        ("delete", None, "not_found"),
        ("read", 1, "ok"),
        ("read", 1, "ok"),
        ("read", None, "not_found"),
        ("rotate", None, "ok"),
        ("write", 1, "ok"),
    ]


async def test_audit_names_caller_and_purpose_and_no_value(manager: SecretManager) -> None:
    await manager.store_secret("db", CREDENTIALS, principal=ALICE)
    await manager.read(ALICE, "db", purpose="execution 1")
    record = next(r for r in await manager.audit(principal=ALICE) if r.action is Action.READ)
    assert dataclasses.replace(record, sequence=0) == AuditRecord(
        from_datetime(NOON), "acme", "alice", Action.READ, "db", 1, "execution 1", Outcome.OK
    )
    assert "hunter22" not in repr(await manager.audit(principal=ALICE))


async def test_reads_are_in_the_store_after_closing(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    await vault.manager.get_secret("db")
    assert [r.action for r in vault.store.every_audit_record()] == [Action.WRITE]
    await vault.manager.close()
    assert [r.action for r in vault.store.every_audit_record()] == [Action.WRITE, Action.READ]


async def test_a_rotation_does_not_name_its_caller_to_other_tenants(manager: SecretManager, vault: Vault) -> None:
    await manager.store_secret("db", CREDENTIALS, principal=ALICE)
    await manager.store_secret("db", CREDENTIALS, principal=BOB)
    rotating = SecretManager()
    await rotating.open(vault.store, Keyring([key("k2"), KEYRING.primary]))
    await rotating.rotate_key(principal=ALICE)
    mine, theirs = [
        [r.subject for r in await manager.audit(principal=p) if r.action is Action.ROTATE] for p in (ALICE, BOB)
    ]
    assert (mine, theirs) == (["alice", "alice"], ["operator"])


async def test_audit_pages_and_can_be_trimmed(vault: Vault) -> None:
    for n in range(5):
        vault.time.elapsed_s = float(n)
        await vault.manager.store_secret("db", {"n": n})
    first = await vault.manager.audit(limit=3)
    rest = await vault.manager.audit(limit=3, before=first[-1].sequence)
    assert [r.version for r in (*first, *rest)] == [5, 4, 3, 2, 1]
    assert await vault.manager.trim_audit(NOON + timedelta(seconds=4)) == 4
    assert [r.version for r in await vault.manager.audit()] == [5]
    with pytest.raises(InvalidRequestError):
        await vault.manager.audit(limit=0)


# --- redaction


async def test_values_that_were_read_are_redacted_from_text(manager: SecretManager) -> None:
    await manager.store_secret("db", CREDENTIALS)
    await manager.read(LOCAL, "db", purpose="")
    assert manager.redactor.redact("auth failed: hunter22-hunter22") == "auth failed: [redacted]"


async def test_values_are_redacted_once_they_are_handed_over_before_anything_read_them(vault: Vault) -> None:
    class Full(CountingStore):
        async def put(self, new: NewVersion, audit: AuditRecord) -> SecretInfo:
            raise UnavailableError(f"no room for {CREDENTIALS['password']}")

    await vault.manager.store_secret("db", CREDENTIALS)
    assert vault.store.gets == 0
    assert vault.manager.redactor.redact("auth failed: hunter22-hunter22") == "auth failed: [redacted]"
    full = SecretManager()
    await full.open(Full(), KEYRING)
    with pytest.raises(UnavailableError) as caught:
        await full.store_secret("db", CREDENTIALS)
    assert full.redactor.redact(caught.value.message) == "no room for [redacted]"


# --- opening and closing


async def test_secrets_stored_before_opening_move_to_the_store() -> None:
    manager = SecretManager()
    for n in range(3):
        await manager.store_secret("db", {"n": n}, principal=ALICE)
    await manager.store_secret("other", {"n": 9})
    await manager.get_secret("other")
    store = MemorySecretStore()
    await manager.open(store, KEYRING)
    assert [await manager.get_secret("db", v, principal=ALICE) for v in (1, 2, 3)] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert await manager.get_secret("other") == {"n": 9}
    assert len(store.every_version()) == 4
    moved = [r.purpose for r in store.every_audit_record() if r.purpose]
    assert moved == ["moved from memory"] * 4
    assert Action.READ in {r.action for r in store.every_audit_record()}


async def test_secrets_in_memory_survive_a_failed_opening() -> None:
    class Full(MemorySecretStore):
        async def put(self, new: NewVersion, audit: AuditRecord) -> SecretInfo:
            raise UnavailableError("full")

    manager = SecretManager()
    await manager.store_secret("db", CREDENTIALS)
    with pytest.raises(UnavailableError):
        await manager.open(Full(), KEYRING)
    assert await manager.get_secret("db") == CREDENTIALS
    await manager.open(MemorySecretStore(), KEYRING)
    assert await manager.get_secret("db") == CREDENTIALS


async def test_stores_under_way_while_opening_are_not_lost() -> None:
    manager = SecretManager()
    await manager.store_secret("first", CREDENTIALS)
    stores = [manager.store_secret(f"s{n}", CREDENTIALS) for n in range(20)]
    store = MemorySecretStore()
    await asyncio.gather(*stores[:10], manager.open(store, KEYRING), *stores[10:])
    assert {row.name for row in store.every_version()} == {"first", *(f"s{n}" for n in range(20))}


async def test_opens_once_until_closed(vault: Vault) -> None:
    with pytest.raises(StateError):
        await vault.manager.open(MemorySecretStore(), KEYRING)
    await vault.manager.close()
    await vault.manager.open(MemorySecretStore(), KEYRING)


async def test_a_manager_that_one_gateway_closed_is_open_to_the_next() -> None:
    async def supply() -> tuple[MemorySecretStore, Keyring]:
        return MemorySecretStore(), KEYRING

    manager = SecretManager()
    for _ in range(2):
        manager.attach(supply)
        await manager.store_secret("db", CREDENTIALS)
        assert await manager.get_secret("db") == CREDENTIALS
        await manager.close()
        with pytest.raises(VaultError, match="closed"):
            await manager.get_secret("db")


async def test_a_closed_manager_says_so() -> None:
    manager = SecretManager()
    await manager.store_secret("db", CREDENTIALS)
    await manager.close()
    with pytest.raises(VaultError, match="closed"):
        await manager.get_secret("db")
