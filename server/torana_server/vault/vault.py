"""`SecretManager`: the vault's public face."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from torana_server.access import LOCAL, Principal
from torana_server.core.clock import Clock, Micros, SystemClock, from_datetime
from torana_server.core.errors import InvalidRequestError, Reason, StateError, VaultError, Violation
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.core.limits import PAGE_SIZE_MAX
from torana_server.vault.cache import SecretCache
from torana_server.vault.keyring import Keyring, LocalKey
from torana_server.vault.memory import MemorySecretStore
from torana_server.vault.open_vault import OpenVault, Rotation, Surroundings
from torana_server.vault.ports import AuditRecord, SecretInfo, SecretStore, VersionInfo
from torana_server.vault.redaction import Redactor
from torana_server.vault.secret import Secret
from torana_server.vault.values import encode_value

CACHE_TTL_S_DEFAULT = 300.0
CACHE_TTL_S_MAX = 86_400.0
CACHE_ENTRIES_DEFAULT = 1_024

Supply = Callable[[], Awaitable[tuple[SecretStore, Keyring]]]
"""Opens the store of a gateway's vault and says which keyring goes with it."""


class SecretManager:
    """Named, versioned, encrypted JSON objects of credentials, separate for each tenant.

    Usable at once. That of a gateway opens the gateway's vault on first use. One that belongs to no gateway yet
    keeps secrets in memory, encrypted by a key of its own, and moves them over when it gets a vault. Every read,
    write, delete and rotation is audited.

    Methods raise InvalidRequestError for malformed arguments, SecretNotFoundError for an absent or expired
    secret, VaultError for a record that does not authenticate (SECRET_CORRUPT) or a key that is missing or
    wrong (VAULT_SEALED), and UnavailableError when the store cannot answer.
    """

    def __init__(
        self,
        cache_ttl: float = CACHE_TTL_S_DEFAULT,
        *,
        keyring: Keyring | None = None,
        cache_entries: int = CACHE_ENTRIES_DEFAULT,
        redactor: Redactor | None = None,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cache_ttl`: seconds that a decrypted secret may be reused, 0 to 86,400; 0 keeps none.
        `keyring`: overrides the one that the gateway would choose. `redactor`: learns every value read."""
        if not 0 <= cache_ttl <= CACHE_TTL_S_MAX:
            raise InvalidRequestError(f"cache_ttl is {cache_ttl}; it is 0 to {CACHE_TTL_S_MAX:.0f} seconds")
        if cache_entries < 1:
            raise InvalidRequestError(f"cache_entries is {cache_entries}; it is at least 1")
        self.redactor = redactor or Redactor()
        self._cache_ttl_s = cache_ttl
        self._cache_entries = cache_entries
        self._keyring = keyring
        self._surroundings = Surroundings(clock or SystemClock(), monotonic, self.redactor)
        self._lock = asyncio.Lock()
        self._vault: OpenVault | None = None
        self._volatile: MemorySecretStore | None = None
        self._closed = False
        self._supply: Supply | None = None

    @property
    def keyring(self) -> Keyring | None:
        """The keyring given at construction, which `open` prefers."""
        return self._keyring

    def attach(self, supply: Supply) -> None:
        """Says where the vault is, for `open_attached` and for the first use before it; called by the gateway.

        Raises StateError when the manager belongs to another gateway that is not closed.
        """
        attached = self._supply is not None and not self._closed
        if attached or (self._vault is not None and self._volatile is None):
            raise StateError(
                "the secret manager belongs to another gateway that is not closed; give each gateway its own",
                reason=Reason.INVALID_REQUEST,
            )
        self._supply = supply
        self._closed = False

    async def open_attached(self) -> None:
        """Opens the vault that `attach` named, unless it is open. Raises like `open`."""
        async with self._lock:
            if self._vault is None or self._volatile is not None:
                await self._open_supplied()

    async def open(self, store: SecretStore, keyring: Keyring | None = None) -> None:
        """Binds the manager to its durable store, which it owns from then on.

        Secrets stored before are moved over, every version, as new versions. Raises VaultError
        (VAULT_SEALED), leaving everything as it was, unless the keyring is the one `store` was written with.
        """
        async with self._lock:
            if self._vault is not None and self._volatile is None:
                raise StateError("the secret manager is open already", reason=Reason.INVALID_REQUEST)
            await self._bind(store, keyring)

    async def close(self) -> None:
        """Writes what audit is pending and closes the store. Secrets that were only in memory are gone."""
        async with self._lock:
            vault, self._vault, self._volatile, self._closed = self._vault, None, None, True
            if vault is not None:
                await vault.close()

    async def store_secret(
        self,
        name: str,
        value: Mapping[str, Any] | str,
        encrypt: bool = True,
        *,
        principal: Principal = LOCAL,
        expire_time: datetime | None = None,
    ) -> SecretInfo:
        """Stores a secret, or a new version of it; durable on return.

        `value` is a JSON object of at most 64 KiB; a string stands for `{"token": <string>}`. `encrypt=False`
        is refused: the vault holds no plaintext. After `expire_time` the secret reads as not found.
        """
        _check_name(name)
        if not encrypt:
            raise InvalidRequestError(
                "the vault stores no plaintext",
                violations=[Violation("encrypt", "is False; leave it out, or keep the value elsewhere")],
            )
        expires = self._expiry(expire_time)
        plaintext = encode_value(value)
        vault = await self._opened()
        return await vault.store(principal, name, plaintext, expire_time=expires)

    async def get_secret(
        self, name: str, version: int | None = None, *, principal: Principal = LOCAL, purpose: str = ""
    ) -> dict[str, Any]:
        """The values, the latest version's by default, in a dict of the caller's own."""
        _check_name(name)
        vault = await self._opened()
        return (await vault.read(principal, name, version, purpose)).secret.reveal()

    async def read(self, principal: Principal, name: str, *, purpose: str) -> tuple[Secret, int]:
        """The latest version and its number. `purpose` goes to the audit: which execution, which resource."""
        _check_name(name)
        vault = await self._opened()
        found = await vault.read(principal, name, None, purpose)
        return found.secret, found.version

    async def current_version(self, principal: Principal, name: str) -> int:
        """The latest version's number, as fresh as `read` is. Hands out no value and is not audited."""
        _check_name(name)
        vault = await self._opened()
        return (await vault.peek(principal.tenant, name, None)).version

    async def describe_secret(self, name: str, *, principal: Principal = LOCAL) -> SecretInfo:
        """What may be known of a secret without reading it, expired or not."""
        _check_name(name)
        vault = await self._opened()
        return await vault.describe(principal.tenant, name)

    async def list_versions(
        self, name: str, *, principal: Principal = LOCAL, before: int | None = None, limit: int = PAGE_SIZE_MAX
    ) -> Sequence[VersionInfo]:
        """What may be known of a secret's versions, latest first: at most `limit`, all of them or those below
        `before`. Raises InvalidRequestError for a limit below 1."""
        _check_name(name)
        if limit < 1:
            raise InvalidRequestError(f"limit is {limit}; it is 1 or more")
        vault = await self._opened()
        return await vault.versions(principal.tenant, name, before, limit)

    async def delete_secret(self, name: str, *, principal: Principal = LOCAL) -> None:
        """Destroys a secret with all its versions. A later secret of that name goes on counting versions."""
        _check_name(name)
        vault = await self._opened()
        await vault.delete(principal, name)

    async def list_secrets(
        self, *, principal: Principal = LOCAL, after: str = "", limit: int | None = None
    ) -> list[SecretInfo]:
        """By name, those greater than `after`: at most `limit`, or all."""
        vault = await self._opened()
        found: list[SecretInfo] = []
        while limit is None or len(found) < limit:
            size = PAGE_SIZE_MAX if limit is None else min(PAGE_SIZE_MAX, limit - len(found))
            page = await vault.list(principal.tenant, found[-1].name if found else after, size)
            found += page
            if len(page) < size:
                break
        return found

    async def rotate_key(self, *, principal: Principal = LOCAL) -> Rotation:
        """Wraps the tenant keys of every tenant with the keyring's primary key.

        Nothing stops meanwhile and no secret is encrypted again. Interrupted, call it again. See `Keyring`
        for the order of a rotation.
        """
        vault = await self._opened()
        return await vault.rotate(principal)

    async def key_usage(self) -> Mapping[str, int]:
        """How many tenant keys each key of the keyring wraps. A key that is absent may be retired."""
        vault = await self._opened()
        return await vault.key_usage()

    async def audit(
        self, *, principal: Principal = LOCAL, limit: int = 100, before: int | None = None
    ) -> Sequence[AuditRecord]:
        """The tenant's audit, newest first. `before`: the `sequence` that the page before ended with."""
        if not 1 <= limit <= PAGE_SIZE_MAX:
            raise InvalidRequestError(f"limit is {limit}; it is 1 to {PAGE_SIZE_MAX}")
        vault = await self._opened()
        return await vault.audit(principal.tenant, before, limit)

    async def trim_audit(self, before: datetime) -> int:
        """Removes audit records of every tenant older than `before`; returns how many."""
        vault = await self._opened()
        return await vault.trim_audit(from_datetime(before))

    async def _opened(self) -> OpenVault:
        if self._vault is not None and (self._volatile is None or self._supply is None):
            return self._vault
        return await self._open_on_first_use()

    async def _open_on_first_use(self) -> OpenVault:
        async with self._lock:
            if self._closed:
                raise VaultError("the secret manager is closed")
            if self._supply is not None and (self._vault is None or self._volatile is not None):
                return await self._open_supplied()
            if self._vault is None:
                store = MemorySecretStore()
                self._vault = await self._open_vault(store, Keyring([LocalKey.random("memory-")]))
                self._volatile = store
            return self._vault

    async def _open_supplied(self) -> OpenVault:
        assert self._supply is not None
        store, keyring = await self._supply()
        try:
            return await self._bind(store, keyring)
        except BaseException:
            await store.close()
            raise

    async def _bind(self, store: SecretStore, keyring: Keyring | None) -> OpenVault:
        vault = await self._open_vault(store, keyring)
        before, self._vault = self._vault, None  # calls made from now on wait for the lock
        moved = False
        try:
            if before is not None and self._volatile is not None:
                await _move(before, self._volatile, vault)
            moved = True
        finally:
            self._vault = vault if moved else before
        self._volatile = None
        self._closed = False
        return vault

    async def _open_vault(self, store: SecretStore, keyring: Keyring | None) -> OpenVault:
        keyring = self._keyring or keyring
        if keyring is None:
            raise VaultError("the vault has no keyring; set TORANA_VAULT_KEYS or give a key file")
        cache = SecretCache(self._cache_ttl_s, self._cache_entries, self._surroundings.monotonic)
        vault = OpenVault(store, keyring, cache, self._surroundings)
        await vault.open()
        return vault

    def _expiry(self, expire_time: datetime | None) -> Micros | None:
        if expire_time is None:
            return None
        if expire_time.tzinfo is None:
            problem = "has no timezone; give one, e.g. timezone.utc"
        elif from_datetime(expire_time) <= self._surroundings.clock.now():
            problem = "is not in the future"
        else:
            return from_datetime(expire_time)
        raise InvalidRequestError("the secret's expiry is not valid", violations=[Violation("expire_time", problem)])


async def _move(source: OpenVault, rows: MemorySecretStore, target: OpenVault) -> None:
    await source.settle()
    await target.append_audit(rows.every_audit_record())
    for row in rows.every_version():
        owner = Principal(row.tenant, LOCAL.subject)
        await target.store(
            owner,
            row.name,
            await source.decrypt(row),
            expire_time=row.expire_time,
            purpose="moved from memory",
        )
    await source.close()


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not is_name(name):
        raise InvalidRequestError("the secret's name is not valid", violations=[Violation("name", f"is {NAME_RULE}")])
