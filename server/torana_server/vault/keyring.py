"""The keyring: key-encryption keys, one of them primary, chosen by id and never by trying."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NoReturn, Protocol

from torana_server.core.errors import Reason, VaultError
from torana_server.vault import envelope

GENERATED_PREFIX = "generated-"
"""Ids of keys that nobody chose start with it, so that production can refuse them on every start."""
KEY_ID_RULE = "1 to 64 letters, digits, '.', '_' or '-'"
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class KeyWrapper(Protocol):
    """One key-encryption key: in memory (`LocalKey`), or held by a KMS that wraps and unwraps at a distance.

    `key_id` never changes its meaning: the same id is the same key for ever. `context` is authenticated, not
    encrypted; a KMS passes it as its encryption context. `unwrap` raises VaultError with SECRET_CORRUPT when
    the bytes were not wrapped by this key with this context. Both raise UnavailableError when the key's
    holder cannot answer.
    """

    @property
    def key_id(self) -> str: ...

    async def wrap(self, key: bytes, context: bytes) -> bytes: ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...


class LocalKey:
    """A 32-byte key held by this process (AES-256-GCM-SIV; layout in `envelope`)."""

    __slots__ = ("__key", "_key_id")

    def __init__(self, key_id: str, key: bytes) -> None:
        if not _KEY_ID.fullmatch(key_id):
            raise VaultError(f"a vault key's id is {KEY_ID_RULE}")
        if len(key) != envelope.KEY_BYTES:
            raise VaultError(f"vault key {key_id!r} has {len(key)} bytes; it needs {envelope.KEY_BYTES}")
        self._key_id = key_id
        self.__key = key

    @classmethod
    def random(cls, prefix: str) -> LocalKey:
        """A new key under a new id that starts with `prefix`."""
        return cls(prefix + os.urandom(6).hex(), os.urandom(envelope.KEY_BYTES))

    @property
    def key_id(self) -> str:
        return self._key_id

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        return envelope.wrap_key(self.__key, self._key_id, key, context)

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return envelope.unwrap_key(self.__key, self._key_id, wrapped, context)

    def reveal(self) -> bytes:
        """The key itself, to write it to a key file."""
        return self.__key

    def __repr__(self) -> str:
        return f"LocalKey({self._key_id!r}, [redacted])"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a vault key is not pickled")


class Keyring:
    """The keys a vault may meet. The first is primary: it wraps whatever is new or rotated.

    To rotate: add the new key last on every replica, then move it to the front, then call `rotate_key()`,
    and remove the old key once `key_usage()` no longer counts it.
    """

    def __init__(self, keys: Sequence[KeyWrapper]) -> None:
        """Raises VaultError for no keys, or two of one id."""
        if not keys:
            raise VaultError("the vault's keyring is empty; it needs at least one key")
        self._keys = {key.key_id: key for key in keys}
        if len(self._keys) != len(keys):
            raise VaultError("two keys of the vault's keyring have the same id; give each its own")
        self._primary = keys[0]

    @property
    def primary(self) -> KeyWrapper:
        return self._primary

    @property
    def ids(self) -> tuple[str, ...]:
        """Primary first."""
        return tuple(self._keys)

    @property
    def generated(self) -> bool:
        """Whether the primary key was generated at first start and not chosen by an operator."""
        return self._primary.key_id.startswith(GENERATED_PREFIX)

    def key(self, key_id: str) -> KeyWrapper:
        """Raises VaultError (VAULT_SEALED) for an id that the keyring does not hold."""
        try:
            return self._keys[key_id]
        except KeyError:
            raise missing_keys([key_id], self.ids) from None

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.ids)})"


def require_operator_key(keyring: Keyring) -> None:
    """What production asks of a keyring. Raises VaultError (VAULT_SEALED) if its primary was generated."""
    if keyring.generated:
        raise VaultError(
            f"the vault's primary key {keyring.primary.key_id!r} was generated at first start and lies beside "
            "the data it protects; production needs a key of its own, in TORANA_VAULT_KEYS or a key file",
            metadata={"keyId": keyring.primary.key_id},
        )


def missing_keys(missing: Sequence[str], held: Sequence[str]) -> VaultError:
    names = ", ".join(repr(key_id) for key_id in missing)
    return VaultError(
        f"the vault needs key {names}, and the keyring holds only {', '.join(map(repr, held))}; "
        "put the missing key back. Without it, what it protects cannot be recovered",
        reason=Reason.VAULT_SEALED,
        metadata={"keyIds": ", ".join(missing)},
    )
