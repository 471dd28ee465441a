"""Tenant keys: made, unwrapped, wrapped again. And the canaries that tell a wrong key at start."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from torana_server.access import Principal
from torana_server.core.clock import Clock
from torana_server.core.errors import Reason, VaultError
from torana_server.vault.envelope import KEY_BYTES, Binding, TenantKey, canary_context, corrupt, tenant_key_context
from torana_server.vault.keyring import Keyring, KeyWrapper, missing_keys
from torana_server.vault.ports import Action, AuditRecord, SecretStore, TenantKeyRow

_UNWRAPPED_MAX = 1_024
_BATCH = 100
_CANARY = b"torana vault canary"


class TenantKeys:
    """Unwrapped keys are held in memory, the most recently used `_UNWRAPPED_MAX` of them."""

    def __init__(self, store: SecretStore, keyring: Keyring, clock: Clock) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock
        self._unwrapped: OrderedDict[tuple[str, int], TenantKey] = OrderedDict()

    async def verify(self) -> None:
        """Raises VaultError (VAULT_SEALED) unless the keyring is the one this vault was written with."""
        _require_ids(self._keyring, await self._store.tenant_keys_by_key())
        for key_id in self._keyring.ids:
            key = self._keyring.key(key_id)
            await _check_canary(key, await self._canary(key))

    async def current(self, tenant: str) -> TenantKey:
        """The tenant's latest key, made now if it has none."""
        row = await self._store.tenant_key(tenant, None)
        if row is None:
            row = await self._store.add_tenant_key(await self._wrap(tenant, 1, os.urandom(KEY_BYTES)))
        return await self._unwrap(row)

    async def at(self, version: int, binding: Binding) -> TenantKey:
        """The key that sealed `binding`. Raises VaultError (SECRET_CORRUPT) if the vault does not hold it."""
        place = (binding.tenant, version)
        if place in self._unwrapped:
            self._unwrapped.move_to_end(place)
            return self._unwrapped[place]
        row = await self._store.tenant_key(binding.tenant, version)
        if row is None:
            raise corrupt(binding, f"version {version} of its tenant key is missing")
        return await self._unwrap(row)

    async def rewrap(self, principal: Principal) -> int:
        """Wraps again what the primary key does not wrap yet; returns how many. Interrupted, it goes on from
        where it was when called again."""
        rewrapped = 0
        after: tuple[str, int] | None = None
        primary_id = self._keyring.primary.key_id
        while rows := await self._store.tenant_keys_to_rewrap(primary_id, after, _BATCH):
            for row in rows:
                rewrapped += await self._rewrap_one(row, principal)
            after = (rows[-1].tenant, rows[-1].version)
        return rewrapped

    async def _rewrap_one(self, row: TenantKeyRow, principal: Principal) -> bool:
        """False when another replica was faster; the row is then in order."""
        key = await self._unwrap(row)
        new = await self._wrap(row.tenant, row.version, key.key)
        # Another tenant's audit does not name the caller: who operates the keyring is not its business.
        subject = principal.subject if principal.tenant == row.tenant else "operator"
        purpose = f"tenant key wrapped by {new.key_id} instead of {row.key_id}"
        audit = AuditRecord(self._clock.now(), row.tenant, subject, Action.ROTATE, "", row.version, purpose)
        return await self._store.rewrap_tenant_key(row, new, audit)

    async def _wrap(self, tenant: str, version: int, key: bytes) -> TenantKeyRow:
        primary = self._keyring.primary
        wrapped = await primary.wrap(key, tenant_key_context(tenant, version))
        return TenantKeyRow(tenant, version, primary.key_id, wrapped)

    async def _unwrap(self, row: TenantKeyRow) -> TenantKey:
        place = (row.tenant, row.version)
        if place not in self._unwrapped:
            context = tenant_key_context(row.tenant, row.version)
            key = await self._keyring.key(row.key_id).unwrap(row.wrapped, context)
            self._unwrapped[place] = TenantKey(row.version, key)
            if len(self._unwrapped) > _UNWRAPPED_MAX:
                self._unwrapped.popitem(last=False)
        return self._unwrapped[place]

    async def _canary(self, key: KeyWrapper) -> bytes:
        """What the key wrapped when the vault first met it, which may be now."""
        wrapped = await self._store.canary(key.key_id)
        return wrapped or await self._store.add_canary(key.key_id, await key.wrap(_CANARY, canary_context()))


async def check_keyring(keyring: Keyring, tenant_keys: Iterable[str], canaries: Mapping[str, bytes]) -> None:
    """Whether a keyring fits a vault whose tenant keys are wrapped by the keys of these ids. Writes nothing.

    Raises VaultError (VAULT_SEALED).
    """
    _require_ids(keyring, tenant_keys)
    for key_id in keyring.ids:
        if key_id in canaries:
            await _check_canary(keyring.key(key_id), canaries[key_id])


def _require_ids(keyring: Keyring, needed: Iterable[str]) -> None:
    missing = sorted(set(needed) - set(keyring.ids))
    if missing:
        raise missing_keys(missing, keyring.ids)


async def _check_canary(key: KeyWrapper, wrapped: bytes) -> None:
    try:
        canary = await key.unwrap(wrapped, canary_context())
    except VaultError as error:
        if error.reason is not Reason.SECRET_CORRUPT:
            raise
        canary = b""
    if canary != _CANARY:
        raise VaultError(
            f"vault key {key.key_id!r} is not the key that this vault was written with under that id; "
            "put the right key back, or give the new key an id of its own",
            metadata={"keyId": key.key_id},
        )
