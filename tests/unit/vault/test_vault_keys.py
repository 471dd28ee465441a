"""`SecretManager` and its keys: sealing, rotation, rows that do not authenticate."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from torana_server.access import Principal
from torana_server.core.errors import (
    Reason,
    UnavailableError,
    VaultError,
)
from torana_server.vault import (
    AuditRecord,
    Keyring,
    MemorySecretStore,
    Rotation,
    SecretManager,
    TenantKeyRow,
)
from unit.vault.world import ALICE, BOB, CREDENTIALS, KEYRING, NOON, Vault, key, outcomes

# --- keys


async def test_a_wrong_key_seals_the_vault_at_start(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    with pytest.raises(VaultError, match="is not the key that this vault was written with") as caught:
        await SecretManager().open(vault.store, Keyring([key("k1")]))
    assert caught.value.reason is Reason.VAULT_SEALED


async def test_a_missing_key_seals_the_vault_at_start(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    with pytest.raises(VaultError, match="needs key 'k1'") as caught:
        await SecretManager().open(vault.store, Keyring([key("k2")]))
    assert caught.value.reason is Reason.VAULT_SEALED
    assert await vault.store.canary("k2") is None, "a keyring that does not fit leaves no trace"


async def test_a_wrong_secondary_key_seals_the_vault_at_start(vault: Vault) -> None:
    await SecretManager().open(vault.store, Keyring([KEYRING.primary, key("k2")]))
    with pytest.raises(VaultError, match="'k2'"):
        await SecretManager().open(vault.store, Keyring([KEYRING.primary, key("k2")]))


async def test_opening_needs_a_keyring_and_prefers_its_own() -> None:
    with pytest.raises(VaultError, match="no keyring"):
        await SecretManager().open(MemorySecretStore())
    store = MemorySecretStore()
    await SecretManager(keyring=Keyring([key("mine")])).open(store, KEYRING)
    assert await store.canary("mine")
    assert await store.canary("k1") is None


async def test_rotation_moves_every_tenant_key_to_the_primary_and_no_secret() -> None:
    store, old, new_key = MemorySecretStore(), key("old"), key("new")
    before = SecretManager()
    await before.open(store, Keyring([old]))
    for n in range(250):
        await before.store_secret("db", {"n": n}, principal=Principal(f"t{n}", "x"))
    rows = store.every_version()

    manager = SecretManager()
    await manager.open(store, Keyring([new_key, old]))
    assert await manager.key_usage() == {"old": 250}
    assert await manager.rotate_key(principal=ALICE) == Rotation(250, "new")
    assert await manager.key_usage() == {"new": 250}
    assert await manager.rotate_key(principal=ALICE) == Rotation(0, "new")
    assert store.every_version() == rows

    after = SecretManager()
    await after.open(store, Keyring([new_key]))
    assert await after.get_secret("db", principal=Principal("t249", "x")) == {"n": 249}
    assert await before.get_secret("db", principal=Principal("t7", "x")) == {"n": 7}


async def test_an_interrupted_rotation_goes_on() -> None:
    class Failing(MemorySecretStore):
        calls = 0

        async def rewrap_tenant_key(self, row: TenantKeyRow, new: TenantKeyRow, audit: AuditRecord) -> bool:
            self.calls += 1
            if self.calls == 3:
                raise UnavailableError("away")
            return await super().rewrap_tenant_key(row, new, audit)

    store, old, new_key = Failing(), key("old"), key("new")
    manager = SecretManager()
    await manager.open(store, Keyring([old]))
    for n in range(5):
        await manager.store_secret("db", {"n": n}, principal=Principal(f"t{n}", "x"))
    manager = SecretManager()
    await manager.open(store, Keyring([new_key, old]))
    with pytest.raises(UnavailableError):
        await manager.rotate_key()
    assert await manager.key_usage() == {"old": 3, "new": 2}
    for n in range(5):
        assert await manager.get_secret("db", principal=Principal(f"t{n}", "x")) == {"n": n}
    assert await manager.rotate_key() == Rotation(3, "new")


async def test_two_first_writers_of_a_tenant_use_one_tenant_key() -> None:
    store = MemorySecretStore()
    one, two = SecretManager(), SecretManager()
    for manager in (one, two):
        await manager.open(store, KEYRING)
    await asyncio.gather(*(m.store_secret("db", CREDENTIALS) for m in (one, two) * 5))
    fresh = SecretManager()
    await fresh.open(store, KEYRING)
    assert [await fresh.get_secret("db", v) for v in range(1, 11)] == [CREDENTIALS] * 10


# --- damage


async def test_an_edited_row_is_corrupt_and_audited_so(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    row = vault.store._rows["local", "db", 1]
    vault.store._rows["local", "db", 1] = dataclasses.replace(row, envelope=row.envelope[:-1] + b"\0")
    with pytest.raises(VaultError, match="cannot be decrypted") as caught:
        await vault.manager.get_secret("db")
    assert caught.value.reason is Reason.SECRET_CORRUPT
    assert caught.value.metadata == {"secret": "db", "version": "1"}
    assert (await outcomes(vault.manager))[-1] == ("read", None, "corrupt")


@pytest.mark.parametrize(
    ("target", "source"),
    [
        (("acme", "a", 1), ("acme", "b", 1)),
        (("acme", "a", 1), ("acme", "a", 2)),
        (("acme", "a", 1), ("other", "a", 1)),
    ],
)
async def test_a_row_swapped_with_another_is_corrupt(
    vault: Vault, target: tuple[str, str, int], source: tuple[str, str, int]
) -> None:
    for name in ("a", "a", "b", "b"):
        await vault.manager.store_secret(name, {"of": name}, principal=ALICE)
        await vault.manager.store_secret(name, {"of": name}, principal=BOB)
    rows = vault.store._rows
    rows[target] = dataclasses.replace(rows[target], envelope=rows[source].envelope)
    with pytest.raises(VaultError) as caught:
        await vault.manager.get_secret(target[1], target[2], principal=ALICE)
    assert caught.value.reason is Reason.SECRET_CORRUPT


async def test_a_longer_expiry_written_into_the_row_is_corrupt(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS, expire_time=NOON + timedelta(seconds=1))
    rows = vault.store._rows
    rows["local", "db", 1] = dataclasses.replace(rows["local", "db", 1], expire_time=None)
    with pytest.raises(VaultError, match="cannot be decrypted"):
        await vault.manager.get_secret("db")


async def test_a_lost_tenant_key_makes_its_secrets_corrupt(vault: Vault) -> None:
    await vault.manager.store_secret("db", CREDENTIALS)
    vault.store._tenant_keys.clear()
    fresh = SecretManager()
    await fresh.open(vault.store, KEYRING)
    with pytest.raises(VaultError, match="tenant key is missing"):
        await fresh.get_secret("db")
