from __future__ import annotations

import base64
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from torana_server.core.errors import Reason, VaultError
from torana_server.vault import (
    Keyring,
    LocalKey,
    generated_key_file,
    keyring_from_file,
    keyring_from_text,
    require_operator_key,
)

ONE = base64.b64encode(bytes(range(32))).decode()
TWO = base64.urlsafe_b64encode(b"\xff" * 32).decode()


def key_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "vault.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_first_key_is_primary() -> None:
    keyring = keyring_from_text(f"new:{ONE}, old:{TWO}")
    assert keyring.primary.key_id == "new"
    assert keyring.ids == ("new", "old")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ONE, "entry 1 of TORANA_VAULT_KEYS has no id"),
        (f"a:{ONE},{TWO}", "entry 2 of TORANA_VAULT_KEYS has no id"),
        ("a:c2VjcmV0!", "not base64"),
        (f"a:{ONE[:-4]}", "has 30 bytes; it needs 32"),
        (f"a b:{ONE}", "a vault key's id is"),
        (f":{ONE}", "a vault key's id is"),
        (f"a:{ONE},a:{TWO}", "same id"),
        (",", "empty"),
        ("", "empty"),
    ],
)
def test_a_malformed_variable_is_refused_without_showing_keys(text: str, problem: str) -> None:
    with pytest.raises(VaultError, match=problem) as caught:
        keyring_from_text(text)
    assert ONE[:8] not in str(caught.value)
    assert "c2Vj" not in str(caught.value)


def test_a_file_holds_one_key_a_line_and_comments(tmp_path: Path) -> None:
    path = key_file(tmp_path, f"# ours, kept in the safe\n\nnew:{ONE}\n  # before\nold:{TWO}\n")
    assert keyring_from_file(path).ids == ("new", "old")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(VaultError, match="chmod 600"):
        keyring_from_file(key_file(tmp_path, f"a:{ONE}", mode))


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    assert keyring_from_file(key_file(tmp_path, f"a:{ONE}", mode)).ids == ("a",)


def test_files_that_hold_no_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="cannot be read"):
        keyring_from_file(tmp_path / "absent")
    with pytest.raises(VaultError, match="not a regular file"):
        keyring_from_file(Path("/dev/null"))
    with pytest.raises(VaultError, match="empty"):
        keyring_from_file(key_file(tmp_path, "# nothing\n"))
    with pytest.raises(VaultError, match="not text"):
        keyring_from_file(key_file(tmp_path, "clé:abc"))
    with pytest.raises(VaultError, match="larger"):
        keyring_from_file(key_file(tmp_path, "#" * 70_000))


def test_a_key_file_is_generated_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    first, second = generated_key_file(path), generated_key_file(path)
    assert (first.created, second.created) == (True, False)
    assert first.keyring.ids == second.keyring.ids
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["vault.key"]


def test_starts_at_one_moment_agree_on_one_generated_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(generated_key_file, [tmp_path / "vault.key"] * 8))
    assert len({key_file.keyring.ids for key_file in made}) == 1
    assert [key_file.created for key_file in made].count(True) == 1


def test_a_key_file_that_cannot_be_made_is_an_error_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="cannot be created") as caught:
        generated_key_file(tmp_path / "nowhere" / "vault.key")
    assert str(tmp_path) not in str(caught.value)


def test_production_refuses_a_generated_key_on_every_start(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    for _ in range(2):
        with pytest.raises(VaultError, match="production") as caught:
            require_operator_key(generated_key_file(path).keyring)
        assert caught.value.reason is Reason.VAULT_SEALED
    require_operator_key(keyring_from_file(key_file(tmp_path, f"ours:{ONE}\n" + path.read_text())))


def test_an_unknown_key_id_names_what_is_missing_and_what_is_there() -> None:
    keyring = Keyring([LocalKey("a", bytes(32)), LocalKey("b", bytes(32))])
    with pytest.raises(VaultError, match="needs key 'c', and the keyring holds only 'a', 'b'") as caught:
        keyring.key("c")
    assert caught.value.reason is Reason.VAULT_SEALED


def test_keys_do_not_show_themselves() -> None:
    key = LocalKey("a", b"K" * 32)
    assert "KKKK" not in repr(key) + str(Keyring([key]))
    with pytest.raises(TypeError):
        pickle.dumps(key)
