from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from torana_server.core.clock import Micros
from torana_server.core.errors import Reason, VaultError
from torana_server.vault import Binding, TenantKey, seal, unseal
from torana_server.vault.envelope import fields, tenant_key_context, tenant_key_version, unwrap_key, wrap_key

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "vault_envelope.json").read_text())

KEY = TenantKey(3, bytes(range(32)))
PLACE = Binding("acme", "db", 2, Micros(1_000))
PLAINTEXT = b'{"password":"hunter22"}'
SEALED = seal(KEY, PLACE, PLAINTEXT)
KEK = bytes(range(32, 64))
WRAPPED = wrap_key(KEK, "k1", KEY.key, tenant_key_context("acme", 3))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
bindings = st.builds(
    Binding,
    tenant=texts,
    name=texts,
    version=st.integers(1, 2**63),
    expire_time=st.none() | st.integers(0, 2**62).map(Micros),
)
keys = st.builds(TenantKey, version=st.integers(1, 2**32 - 1), key=st.binary(min_size=32, max_size=32))


@pytest.mark.parametrize("vector", VECTORS["secrets"], ids=lambda v: v["name"])
def test_frozen_secrets_are_written_and_read_byte_for_byte(vector: dict[str, Any]) -> None:
    key = TenantKey(vector["tenant_key_version"], bytes.fromhex(vector["tenant_key"]))
    place = Binding(vector["tenant"], vector["name"], vector["version"], vector["expire_time"])
    frozen, plaintext = bytes.fromhex(vector["envelope"]), vector["plaintext"].encode()
    chunks: Iterator[bytes] = iter([bytes.fromhex(vector["salt"]), bytes.fromhex(vector["nonce"])])
    assert seal(key, place, plaintext, lambda size: next(chunks)) == frozen
    assert unseal(key, place, frozen) == plaintext


@pytest.mark.parametrize("vector", VECTORS["secrets"], ids=lambda v: v["name"])
def test_the_layout_is_the_documented_one(vector: dict[str, Any]) -> None:
    """Read without the product's code, by the table in `envelope`."""
    sealed = bytes.fromhex(vector["envelope"])
    assert sealed[:2] == b"\x01\x01"
    assert int.from_bytes(sealed[2:6], "big") == vector["tenant_key_version"]
    derived = HKDF(SHA256(), 64, sealed[6:38], b"torana.vault.secret.v1").derive(bytes.fromhex(vector["tenant_key"]))
    assert sealed[50:82] == derived[32:]
    expiry = vector["expire_time"]
    parts = [
        b"torana.vault.secret",
        b"\x01",
        b"\x01",
        vector["tenant"].encode(),
        vector["name"].encode(),
        vector["version"].to_bytes(8, "big"),
        sealed[2:6],
        b"" if expiry is None else expiry.to_bytes(8, "big"),
    ]
    data = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert AESGCM(derived[:32]).decrypt(sealed[38:50], sealed[82:], data) == vector["plaintext"].encode()


@pytest.mark.parametrize("vector", VECTORS["wrapped_keys"], ids=lambda v: v["record"])
def test_frozen_wrapped_keys_are_written_and_read_byte_for_byte(vector: dict[str, Any]) -> None:
    kek, key, context, wrapped, nonce = (
        bytes.fromhex(vector[part]) for part in ("kek", "key", "context", "wrapped", "nonce")
    )
    assert wrap_key(kek, vector["key_id"], key, context, lambda size: nonce) == wrapped
    assert unwrap_key(kek, vector["key_id"], wrapped, context) == key
    parts = (context, b"\x01", b"\x02", vector["key_id"].encode())
    data = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert AESGCMSIV(kek).decrypt(wrapped[2:14], wrapped[14:], data) == key


@given(key=keys, place=bindings, plaintext=st.binary(max_size=200))
def test_what_is_sealed_is_unsealed(key: TenantKey, place: Binding, plaintext: bytes) -> None:
    sealed = seal(key, place, plaintext)
    assert unseal(key, place, sealed) == plaintext
    assert tenant_key_version(sealed, place) == key.version


def test_no_two_seals_are_alike() -> None:
    first, second = seal(KEY, PLACE, PLAINTEXT), seal(KEY, PLACE, PLAINTEXT)
    assert first[6:38] != second[6:38]
    assert first[82:] != second[82:]


@given(at=st.integers(0, len(SEALED) - 1), flip=st.integers(1, 255))
def test_any_changed_byte_is_noticed(at: int, flip: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= flip
    assert_corrupt(KEY, PLACE, bytes(changed))


@given(size=st.integers(0, len(SEALED) - 1))
def test_any_truncation_is_noticed(size: int) -> None:
    assert_corrupt(KEY, PLACE, SEALED[:size])


@given(place=bindings)
def test_a_row_in_another_place_is_noticed(place: Binding) -> None:
    if place != PLACE:
        assert_corrupt(KEY, place, SEALED)


@pytest.mark.parametrize(
    "place",
    [
        replace(PLACE, tenant="acm"),
        replace(PLACE, tenant="acmed", name="b"),
        replace(PLACE, tenant="acm", name="edb"),
        replace(PLACE, version=3),
        replace(PLACE, expire_time=None),
        replace(PLACE, expire_time=Micros(1_001)),
    ],
)
def test_each_part_of_the_place_counts(place: Binding) -> None:
    assert_corrupt(KEY, place, SEALED)


@given(key=keys)
def test_another_tenant_key_is_noticed(key: TenantKey) -> None:
    if key != KEY:
        assert_corrupt(key, PLACE, SEALED)
        assert_corrupt(replace(key, version=KEY.version), PLACE, SEALED)


def test_ciphertext_under_another_key_fails_its_commitment() -> None:
    other = seal(TenantKey(3, bytes(32)), PLACE, PLAINTEXT)
    with pytest.raises(VaultError, match="commitment"):
        unseal(KEY, PLACE, other)


@given(at=st.integers(0, len(WRAPPED) - 1), flip=st.integers(1, 255))
def test_any_changed_byte_of_a_wrapped_key_is_noticed(at: int, flip: int) -> None:
    changed = bytearray(WRAPPED)
    changed[at] ^= flip
    assert_key_corrupt(KEK, "k1", bytes(changed), tenant_key_context("acme", 3))


@pytest.mark.parametrize(
    ("kek", "key_id", "context"),
    [
        (bytes(32), "k1", tenant_key_context("acme", 3)),
        (KEK, "k2", tenant_key_context("acme", 3)),
        (KEK, "k1", tenant_key_context("acme", 4)),
        (KEK, "k1", tenant_key_context("acm", 3)),
    ],
)
def test_a_wrapped_key_opens_only_in_its_place(kek: bytes, key_id: str, context: bytes) -> None:
    assert_key_corrupt(kek, key_id, WRAPPED, context)


@given(one=st.lists(st.binary(max_size=5), max_size=5), two=st.lists(st.binary(max_size=5), max_size=5))
def test_different_fields_give_different_bytes(one: list[bytes], two: list[bytes]) -> None:
    assert (fields(*one) == fields(*two)) == (one == two)


def test_errors_and_keys_show_no_plaintext() -> None:
    with pytest.raises(VaultError) as caught:
        unseal(KEY, replace(PLACE, version=9), SEALED)
    assert caught.value.metadata == {"secret": "db", "version": "9"}
    assert KEY.key.hex() not in repr(KEY)
    assert repr(KEY.key) not in repr(KEY)


def assert_corrupt(key: TenantKey, place: Binding, sealed: bytes) -> None:
    with pytest.raises(VaultError) as caught:
        unseal(key, place, sealed)
    assert caught.value.reason is Reason.SECRET_CORRUPT


def assert_key_corrupt(kek: bytes, key_id: str, wrapped: bytes, context: bytes) -> None:
    with pytest.raises(VaultError) as caught:
        unwrap_key(kek, key_id, wrapped, context)
    assert caught.value.reason is Reason.SECRET_CORRUPT
