"""How secrets and tenant keys are encrypted, and the bytes that are stored.

    key-encryption key (keyring) --AES-256-GCM-SIV--> tenant key (random, 32 bytes, versioned)
    tenant key --HKDF-SHA256, random salt--> AES-256-GCM key and commitment, fresh for each secret version

A stored secret version, format 1 (integers big-endian and unsigned):

    offset  size  field
         0     1  format: 1
         1     1  algorithm: 1 = HKDF-SHA256 with key commitment, AES-256-GCM
         2     4  tenant key version
         6    32  salt of HKDF
        38    12  nonce of AES-GCM
        50    32  commitment
        82     n  ciphertext of the value, which is UTF-8 JSON
      82+n    16  tag

    HKDF-SHA256(key = tenant key, salt, info = "torana.vault.secret.v1", 64 bytes) = AES key ‖ commitment
    associated data = fields("torana.vault.secret", format, algorithm, tenant, name, secret version (8),
                             tenant key version (4), expiry (8, microseconds since the epoch; empty: never))

A key wrapped by a local key-encryption key, format 1:

    offset  size  field
         0     1  format: 1
         1     1  algorithm: 2 = AES-256-GCM-SIV
         2    12  nonce
        14     n  ciphertext of the key
      14+n    16  tag

    associated data = fields(context, format, algorithm, key id)
    context of a tenant key = fields("torana.vault.tenant-key", tenant, tenant key version (4))
    context of a canary     = fields("torana.vault.canary")

`fields` puts the length of each field (4 bytes) before it, so ("a", "bc") and ("ab", "c") differ. Text is
UTF-8. Everything that places a row is in its associated data: a row that was copied, swapped or edited does
not authenticate. The commitment ties a ciphertext to one key, which GCM alone does not.

`tests/vectors/vault_envelope.json` freezes this layout.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from torana_server.core.clock import Micros
from torana_server.core.errors import Reason, VaultError

KEY_BYTES: Final = 32
FORMAT: Final = 1
ALGORITHM_SECRET: Final = 1
ALGORITHM_WRAP: Final = 2

_SALT_BYTES = 32
_NONCE_BYTES = 12
_COMMITMENT_BYTES = 32
_TAG_BYTES = 16
_SECRET_HEADER_BYTES = 6 + _SALT_BYTES + _NONCE_BYTES + _COMMITMENT_BYTES
_HKDF_INFO = b"torana.vault.secret.v1"

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Binding:
    """The place a secret version has, which its ciphertext is bound to."""

    tenant: str
    name: str
    version: int
    expire_time: Micros | None = None


@dataclass(frozen=True, slots=True)
class TenantKey:
    """`key` is 32 bytes in the clear and stays out of `repr`."""

    version: int
    key: bytes = field(repr=False)


def fields(*values: bytes) -> bytes:
    """Length-prefixed, so that no two lists of values give the same bytes."""
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def seal(tenant_key: TenantKey, binding: Binding, plaintext: bytes, random_bytes: RandomBytes = os.urandom) -> bytes:
    """The stored form of one secret version. `random_bytes` is replaced by test vectors only."""
    salt, nonce = random_bytes(_SALT_BYTES), random_bytes(_NONCE_BYTES)
    key, commitment = _derive(tenant_key.key, salt)
    header = bytes((FORMAT, ALGORITHM_SECRET)) + tenant_key.version.to_bytes(4, "big") + salt + nonce + commitment
    return header + AESGCM(key).encrypt(nonce, plaintext, _secret_data(binding, tenant_key.version))


def tenant_key_version(envelope: bytes, binding: Binding) -> int:
    """Which tenant key a stored secret needs. Raises VaultError (SECRET_CORRUPT) for bytes of another form."""
    if len(envelope) < _SECRET_HEADER_BYTES + _TAG_BYTES:
        raise corrupt(binding, "it is truncated")
    if envelope[:2] != bytes((FORMAT, ALGORITHM_SECRET)):
        raise corrupt(binding, f"format {envelope[0]}, algorithm {envelope[1]} is not known to this release")
    return int.from_bytes(envelope[2:6], "big")


def unseal(tenant_key: TenantKey, binding: Binding, envelope: bytes) -> bytes:
    """The plaintext. Raises VaultError (SECRET_CORRUPT) unless every byte and the place are as sealed."""
    if tenant_key_version(envelope, binding) != tenant_key.version:
        raise corrupt(binding, "it was sealed with another tenant key")
    salt, nonce = envelope[6:38], envelope[38:50]
    key, commitment = _derive(tenant_key.key, salt)
    if not hmac.compare_digest(commitment, envelope[50:82]):
        raise corrupt(binding, "its key commitment does not match")
    try:
        return AESGCM(key).decrypt(nonce, envelope[82:], _secret_data(binding, tenant_key.version))
    except InvalidTag:
        raise corrupt(binding, "it does not authenticate") from None


def wrap_key(kek: bytes, key_id: str, key: bytes, context: bytes, random_bytes: RandomBytes = os.urandom) -> bytes:
    """`key` encrypted by the key-encryption key `kek`, bound to `key_id` and `context`."""
    nonce = random_bytes(_NONCE_BYTES)
    header = bytes((FORMAT, ALGORITHM_WRAP))
    return header + nonce + AESGCMSIV(kek).encrypt(nonce, key, _wrap_data(key_id, context))


def unwrap_key(kek: bytes, key_id: str, wrapped: bytes, context: bytes) -> bytes:
    """Raises VaultError (SECRET_CORRUPT) when the bytes do not authenticate under this key, id and context."""
    if len(wrapped) < 2 + _NONCE_BYTES + _TAG_BYTES or wrapped[:2] != bytes((FORMAT, ALGORITHM_WRAP)):
        raise _corrupt_key(key_id)
    nonce, ciphertext = wrapped[2 : 2 + _NONCE_BYTES], wrapped[2 + _NONCE_BYTES :]
    try:
        return AESGCMSIV(kek).decrypt(nonce, ciphertext, _wrap_data(key_id, context))
    except InvalidTag:
        raise _corrupt_key(key_id) from None


def tenant_key_context(tenant: str, version: int) -> bytes:
    return fields(b"torana.vault.tenant-key", tenant.encode(), version.to_bytes(4, "big"))


def canary_context() -> bytes:
    return fields(b"torana.vault.canary")


def corrupt(binding: Binding, problem: str) -> VaultError:
    return VaultError(
        f"version {binding.version} of secret {binding.name!r} cannot be decrypted: {problem}; "
        "restore the vault from a backup or store the secret again",
        reason=Reason.SECRET_CORRUPT,
        metadata={"secret": binding.name, "version": str(binding.version)},
    )


def _derive(tenant_key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    derived = HKDF(SHA256(), KEY_BYTES + _COMMITMENT_BYTES, salt, _HKDF_INFO).derive(tenant_key)
    return derived[:KEY_BYTES], derived[KEY_BYTES:]


def _secret_data(binding: Binding, key_version: int) -> bytes:
    return fields(
        b"torana.vault.secret",
        bytes((FORMAT,)),
        bytes((ALGORITHM_SECRET,)),
        binding.tenant.encode(),
        binding.name.encode(),
        binding.version.to_bytes(8, "big"),
        key_version.to_bytes(4, "big"),
        b"" if binding.expire_time is None else binding.expire_time.to_bytes(8, "big"),
    )


def _wrap_data(key_id: str, context: bytes) -> bytes:
    return fields(context, bytes((FORMAT,)), bytes((ALGORITHM_WRAP,)), key_id.encode())


def _corrupt_key(key_id: str) -> VaultError:
    return VaultError(
        f"a record wrapped by vault key {key_id!r} does not authenticate: the key differs from the one that "
        "wrapped it, or the record was edited",
        reason=Reason.SECRET_CORRUPT,
        metadata={"keyId": key_id},
    )
