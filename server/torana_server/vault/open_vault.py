"""The vault over one store and one keyring, both known to fit."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torana_server.access import Principal
from torana_server.core import logs
from torana_server.core.clock import Clock, Micros, to_datetime
from torana_server.core.errors import Reason, SecretNotFoundError, ToranaError, UnavailableError
from torana_server.vault import envelope
from torana_server.vault.audit import ReadAudit
from torana_server.vault.cache import Decrypted, Place, SecretCache
from torana_server.vault.envelope import Binding
from torana_server.vault.keyring import Keyring
from torana_server.vault.ports import (
    Action,
    AuditRecord,
    NewVersion,
    Outcome,
    SecretInfo,
    SecretRow,
    SecretStore,
    VersionInfo,
)
from torana_server.vault.redaction import Redactor
from torana_server.vault.secret import Secret
from torana_server.vault.tenant_keys import TenantKeys
from torana_server.vault.values import string_leaves

EPOCH_POLL_S = 1.0
"""A change by another process is seen at once where the store tells, and else this much later while it answers."""
PURPOSE_CHARS_MAX = 512

_Result = TypeVar("_Result")
_log = logs.logger("vault")


@dataclass(frozen=True, slots=True)
class Rotation:
    """`rewrapped` tenant keys changed hands; `primary_key_id` wraps all of them now."""

    rewrapped: int
    primary_key_id: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a vault takes from its process. `monotonic` gives seconds."""

    clock: Clock
    monotonic: Callable[[], float]
    redactor: Redactor


class OpenVault:
    """Made by `open`. Owns the store from then on: `close` closes it."""

    def __init__(self, store: SecretStore, keyring: Keyring, cache: SecretCache, surroundings: Surroundings) -> None:
        self._store = store
        self._keyring = keyring
        self._cache = cache
        self._clock = surroundings.clock
        self._monotonic = surroundings.monotonic
        self._redactor = surroundings.redactor
        self._keys = TenantKeys(store, keyring, surroundings.clock)
        self._read_audit = ReadAudit(store.append_audit)
        self._changes: set[asyncio.Task[Any]] = set()
        self._epoch = 0
        self._poll_at_s = 0.0

    async def open(self) -> None:
        """Raises VaultError (VAULT_SEALED) unless the keyring fits what the store holds."""
        await self._keys.verify()
        self._epoch = await self._store.epoch()
        self._poll_at_s = self._monotonic() + EPOCH_POLL_S
        self._store.listen(self._poll_soon)

    async def read(self, principal: Principal, name: str, version: int | None, purpose: str) -> Decrypted:
        """A secret, audited. Raises SecretNotFoundError when absent or expired, VaultError when corrupt."""
        try:
            found = await self.peek(principal.tenant, name, version)
        except ToranaError as error:
            await self._audit_read(principal, name, version, purpose, _outcome(error))
            raise
        await self._audit_read(principal, name, found.version, purpose, Outcome.OK)
        return found

    async def peek(self, tenant: str, name: str, version: int | None) -> Decrypted:
        """Like `read` and not audited: for what hands no value on."""
        if self._monotonic() >= self._poll_at_s:
            await self._poll_epoch()
        found = await self._cache.get((tenant, name, version), self._load)
        if found is None:
            raise _not_found(name, version)
        if found.expire_time is not None and found.expire_time <= self._clock.now():
            raise _expired(name, found.expire_time)
        return found

    async def store(
        self,
        principal: Principal,
        name: str,
        plaintext: bytes,
        *,
        expire_time: Micros | None = None,
        purpose: str = "",
    ) -> SecretInfo:
        """Adds a version. `plaintext` comes from `encode_value`. Durable on return.

        Its values are redacted from now on, before anything has read them.
        """
        self._redactor.register(string_leaves(Secret(plaintext).reveal()))
        return await self._to_the_end(self._put(principal, name, plaintext, expire_time, purpose))

    async def delete(self, principal: Principal, name: str) -> None:
        await self._to_the_end(self._delete(principal, name))

    async def rotate(self, principal: Principal) -> Rotation:
        primary_id = self._keyring.primary.key_id
        rewrapped = await self._keys.rewrap(principal)
        purpose = f"{rewrapped} tenant keys wrapped by {primary_id}"
        await self._store.append_audit([self._record(principal, Action.ROTATE, "", purpose=purpose)])
        return Rotation(rewrapped, primary_id)

    async def describe(self, tenant: str, name: str) -> SecretInfo:
        info = await self._store.describe(tenant, name)
        if info is None:
            raise _not_found(name, None)
        return info

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[SecretInfo]:
        return await self._store.list(tenant, after, limit)

    async def versions(self, tenant: str, name: str, before: int | None, limit: int) -> Sequence[VersionInfo]:
        """Raises SecretNotFoundError for a secret that does not exist."""
        found = await self._store.versions(tenant, name, before, limit)
        if not found:
            await self.describe(tenant, name)
        return found

    async def key_usage(self) -> Mapping[str, int]:
        return await self._store.tenant_keys_by_key()

    async def audit(self, tenant: str, before: int | None, limit: int) -> Sequence[AuditRecord]:
        await self._read_audit.flush()
        return await self._store.audit(tenant, before, limit)

    async def append_audit(self, records: Sequence[AuditRecord]) -> None:
        await self._store.append_audit(records)

    async def trim_audit(self, before: Micros) -> int:
        return await self._store.trim_audit(before)

    async def decrypt(self, row: SecretRow) -> bytes:
        binding = Binding(row.tenant, row.name, row.version, row.expire_time)
        key = await self._keys.at(envelope.tenant_key_version(row.envelope, binding), binding)
        return envelope.unseal(key, binding, row.envelope)

    async def settle(self) -> None:
        """Returns when changes under way are done and reads so far are in the store's audit."""
        while self._changes:
            await asyncio.wait(self._changes)
        await self._read_audit.flush()

    async def close(self) -> None:
        while self._changes:
            await asyncio.wait(self._changes)
        self._cache.clear()
        try:
            await self._read_audit.close()
        finally:
            await self._store.close()

    async def _put(
        self, principal: Principal, name: str, plaintext: bytes, expire_time: Micros | None, purpose: str
    ) -> SecretInfo:
        key = await self._keys.current(principal.tenant)

        def seal(version: int) -> bytes:
            return envelope.seal(key, Binding(principal.tenant, name, version, expire_time), plaintext)

        audit = self._record(principal, Action.WRITE, name, purpose=purpose)
        try:
            return await self._store.put(NewVersion(principal.tenant, name, audit.at, seal, expire_time), audit)
        finally:  # also after an error: the change may have happened
            self._cache.drop(principal.tenant, name)

    async def _delete(self, principal: Principal, name: str) -> None:
        audit = self._record(principal, Action.DELETE, name)
        try:
            deleted = await self._store.delete(principal.tenant, name, audit)
        finally:
            self._cache.drop(principal.tenant, name)
        if not deleted:
            await self._read_audit.add(self._record(principal, Action.DELETE, name, outcome=Outcome.NOT_FOUND))
            raise _not_found(name, None)

    async def _load(self, place: Place) -> Decrypted | None:
        row = await self._store.get(*place)
        if row is None:
            return None
        secret = Secret(await self.decrypt(row))
        self._redactor.register(string_leaves(secret.reveal()))
        return Decrypted(secret, row.version, row.expire_time)

    def _poll_soon(self) -> None:
        self._poll_at_s = -math.inf

    async def _poll_epoch(self) -> None:
        self._poll_at_s = self._monotonic() + EPOCH_POLL_S
        try:
            epoch = await self._store.epoch()
        except UnavailableError as error:
            # What is cached stays valid for its time: a store that is away must not stop running work.
            _log.warning("changes of secrets by other processes cannot be seen: %s", error)
            return
        if epoch != self._epoch:
            self._epoch = epoch
            self._cache.clear()

    async def _to_the_end(self, change: Coroutine[Any, Any, _Result]) -> _Result:
        """A change goes on when its caller is cancelled: half-way the cache could contradict the store."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changed)
        return await asyncio.shield(task)

    def _changed(self, task: asyncio.Task[Any]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: the caller has it, unless cancelled

    async def _audit_read(
        self, principal: Principal, name: str, version: int | None, purpose: str, outcome: Outcome
    ) -> None:
        await self._read_audit.add(
            self._record(principal, Action.READ, name, version=version, purpose=purpose, outcome=outcome)
        )

    def _record(
        self,
        principal: Principal,
        action: Action,
        name: str,
        *,
        version: int | None = None,
        purpose: str = "",
        outcome: Outcome = Outcome.OK,
    ) -> AuditRecord:
        purpose = purpose[:PURPOSE_CHARS_MAX]
        now = self._clock.now()
        return AuditRecord(now, principal.tenant, principal.subject, action, name, version, purpose, outcome)


def _outcome(error: ToranaError) -> Outcome:
    if isinstance(error, SecretNotFoundError):
        return Outcome.EXPIRED if "expireTime" in error.metadata else Outcome.NOT_FOUND
    return Outcome.CORRUPT if error.reason is Reason.SECRET_CORRUPT else Outcome.FAILED


def _not_found(name: str, version: int | None) -> SecretNotFoundError:
    what = f"secret {name!r}" if version is None else f"version {version} of secret {name!r}"
    return SecretNotFoundError(
        f"{what} does not exist in this tenant; store it first, or check the name", metadata={"secret": name}
    )


def _expired(name: str, expire_time: Micros) -> SecretNotFoundError:
    at = to_datetime(expire_time).isoformat()
    return SecretNotFoundError(
        f"secret {name!r} expired at {at}; store a new version",
        metadata={"secret": name, "expireTime": at},
    )
