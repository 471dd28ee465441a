"""The vault over its file, as a gateway starts it: a generated key, restarts, and what lies on the disk."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from torana_server.access import LOCAL, Principal
from torana_server.adapters.sqlite.secrets import SqliteSecretStore
from torana_server.core.errors import Reason, SecretNotFoundError, VaultError
from torana_server.vault import Action, Keyring, LocalKey, Rotation, SecretManager, generated_key_file

CANARY = "canary-7f3a9c51e2-secret"
ALICE = Principal("acme", "alice")


async def start(folder: Path, keyring: Keyring | None = None) -> SecretManager:
    manager = SecretManager()
    store = await SqliteSecretStore.open(folder / "vault.db")
    try:
        await manager.open(store, keyring or generated_key_file(folder / "vault.key").keyring)
    except VaultError:
        await store.close()
        raise
    return manager


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_secrets_survive_a_restart(tmp_path: Path) -> None:
    manager = await start(tmp_path)
    await manager.store_secret("db", {"password": "one"}, principal=ALICE)
    await manager.store_secret("db", {"password": "two"}, principal=ALICE)
    await manager.close()
    manager = await start(tmp_path)
    assert await manager.get_secret("db", principal=ALICE) == {"password": "two"}
    assert await manager.get_secret("db", 1, principal=ALICE) == {"password": "one"}
    await manager.delete_secret("db", principal=ALICE)
    await manager.close()
    manager = await start(tmp_path)
    with pytest.raises(SecretNotFoundError):
        await manager.get_secret("db", principal=ALICE)
    actions = [record.action for record in await manager.audit(principal=ALICE)]
    await manager.close()
    assert sorted(actions) == [Action.DELETE, Action.READ, Action.READ, Action.READ, Action.WRITE, Action.WRITE]


async def test_no_form_of_a_secret_is_on_the_disk(tmp_path: Path) -> None:
    manager = await start(tmp_path)
    await manager.store_secret("db", {"password": CANARY, "nested": {"token": CANARY}})
    await manager.read(LOCAL, "db", purpose="execution 1")
    await manager.audit()
    disk = everything_in(tmp_path)
    await manager.close()
    disk += everything_in(tmp_path)
    forms = [CANARY.encode(), CANARY.encode().hex().encode(), base64.b64encode(CANARY.encode())[:-4]]
    assert b"execution 1" in disk, "the sweep reads what was written"
    assert [form for form in forms if form in disk] == []


async def test_a_restart_with_another_key_is_refused(tmp_path: Path) -> None:
    manager = await start(tmp_path)
    await manager.store_secret("db", {"password": "one"})
    await manager.close()
    (tmp_path / "vault.key").unlink()
    with pytest.raises(VaultError, match="generated-") as caught:
        await start(tmp_path)
    assert caught.value.reason is Reason.VAULT_SEALED


async def test_a_key_is_rotated_over_restarts_without_losing_a_secret(tmp_path: Path) -> None:
    old, new = LocalKey("old", b"o" * 32), LocalKey("new", b"n" * 32)
    usages = []
    for keys in ([old], [old, new], [new, old]):
        manager = await start(tmp_path, Keyring(keys))
        await manager.store_secret("db", {"under": keys[0].key_id})
        usages.append(dict(await manager.key_usage()))
        if keys[0] is new:
            assert await manager.rotate_key() == Rotation(1, "new")
        await manager.close()
    manager = await start(tmp_path, Keyring([new]))
    values = [await manager.get_secret("db", version) for version in (1, 2, 3)]
    usages.append(dict(await manager.key_usage()))
    await manager.close()
    assert values == [{"under": "old"}, {"under": "old"}, {"under": "new"}]
    assert usages == [{"old": 1}, {"old": 1}, {"old": 1}, {"new": 1}]


async def test_secrets_given_before_the_start_reach_the_file(tmp_path: Path) -> None:
    manager = SecretManager()
    await manager.store_secret("db", {"password": "early"})
    await manager.open(
        await SqliteSecretStore.open(tmp_path / "vault.db"), generated_key_file(tmp_path / "vault.key").keyring
    )
    await manager.close()
    manager = await start(tmp_path)
    assert await manager.get_secret("db") == {"password": "early"}
    await manager.close()
