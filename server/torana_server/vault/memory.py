"""A vault's rows in this process's memory: what a `SecretManager` uses until it is given a durable store."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from torana_server.core.clock import Micros
from torana_server.core.errors import UnavailableError
from torana_server.vault.ports import AuditRecord, NewVersion, SecretInfo, SecretRow, TenantKeyRow, VersionInfo

AUDIT_RECORDS_MAX = 100_000
"""The oldest are dropped past it; memory has no other bound."""


class MemorySecretStore:
    """Implements `SecretStore`. Atomic because no method awaits; nothing survives the process."""

    def __init__(self) -> None:
        self._infos: dict[tuple[str, str], SecretInfo] = {}
        self._rows: dict[tuple[str, str, int], SecretRow] = {}
        self._create_times: dict[tuple[str, str, int], Micros] = {}
        self._versions: Counter[tuple[str, str]] = Counter()
        self._tenant_keys: dict[tuple[str, int], TenantKeyRow] = {}
        self._canaries: dict[str, bytes] = {}
        self._audit: list[AuditRecord] = []
        self._audit_sequence = 0
        self._epoch = 0
        self._closed = False

    async def put(self, new: NewVersion, audit: AuditRecord) -> SecretInfo:
        self._check_open()
        place = (new.tenant, new.name)
        version = self._versions[place] + 1
        envelope = new.seal(version)
        first = self._infos.get(place)
        info = SecretInfo(new.name, version, first.create_time if first else new.at, new.at, new.expire_time)
        self._versions[place] = version
        self._infos[place] = info
        self._rows[*place, version] = SecretRow(new.tenant, new.name, version, envelope, new.expire_time)
        self._create_times[*place, version] = new.at
        self._changed(audit, version)
        return info

    async def get(self, tenant: str, name: str, version: int | None) -> SecretRow | None:
        self._check_open()
        if version is None:
            version = self._versions[tenant, name]
        return self._rows.get((tenant, name, version))

    async def describe(self, tenant: str, name: str) -> SecretInfo | None:
        self._check_open()
        return self._infos.get((tenant, name))

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[SecretInfo]:
        self._check_open()
        names = sorted(name for owner, name in self._infos if owner == tenant and name > after)
        return [self._infos[tenant, name] for name in names[:limit]]

    async def versions(self, tenant: str, name: str, before: int | None, limit: int) -> Sequence[VersionInfo]:
        self._check_open()
        latest = self._versions[tenant, name] if before is None else before - 1
        rows = (self._rows.get((tenant, name, version)) for version in range(latest, 0, -1))
        held = [row for row in rows if row is not None][:limit]
        return [
            VersionInfo(row.version, self._create_times[tenant, name, row.version], row.expire_time) for row in held
        ]

    async def delete(self, tenant: str, name: str, audit: AuditRecord) -> bool:
        self._check_open()
        info = self._infos.pop((tenant, name), None)
        if info is None:
            return False
        for version in range(1, info.version + 1):
            self._rows.pop((tenant, name, version), None)
            self._create_times.pop((tenant, name, version), None)
        self._changed(audit, info.version)
        return True

    async def tenant_key(self, tenant: str, version: int | None) -> TenantKeyRow | None:
        self._check_open()
        if version is None:
            version = max((held for owner, held in self._tenant_keys if owner == tenant), default=0)
        return self._tenant_keys.get((tenant, version))

    async def add_tenant_key(self, row: TenantKeyRow) -> TenantKeyRow:
        self._check_open()
        return self._tenant_keys.setdefault((row.tenant, row.version), row)

    async def tenant_keys_to_rewrap(
        self, key_id: str, after: tuple[str, int] | None, limit: int
    ) -> Sequence[TenantKeyRow]:
        self._check_open()
        places = sorted(place for place in self._tenant_keys if after is None or place > after)
        rows = [self._tenant_keys[place] for place in places]
        return [row for row in rows if row.key_id != key_id][:limit]

    async def rewrap_tenant_key(self, row: TenantKeyRow, new: TenantKeyRow, audit: AuditRecord) -> bool:
        self._check_open()
        if self._tenant_keys.get((row.tenant, row.version)) != row:
            return False
        self._tenant_keys[row.tenant, row.version] = new
        self._append(audit)
        return True

    async def tenant_keys_by_key(self) -> Mapping[str, int]:
        self._check_open()
        return Counter(row.key_id for row in self._tenant_keys.values())

    async def canary(self, key_id: str) -> bytes | None:
        self._check_open()
        return self._canaries.get(key_id)

    async def add_canary(self, key_id: str, wrapped: bytes) -> bytes:
        self._check_open()
        return self._canaries.setdefault(key_id, wrapped)

    async def epoch(self) -> int:
        self._check_open()
        return self._epoch

    def listen(self, changed: Callable[[], None]) -> None:
        """No other process changes this store."""

    async def append_audit(self, records: Sequence[AuditRecord]) -> None:
        self._check_open()
        for record in records:
            self._append(record)

    async def audit(self, tenant: str, before: int | None, limit: int) -> Sequence[AuditRecord]:
        self._check_open()
        newest_first = reversed(self._audit)
        mine = (r for r in newest_first if r.tenant == tenant and (before is None or r.sequence < before))
        return [record for record, _ in zip(mine, range(limit), strict=False)]

    async def trim_audit(self, before: Micros) -> int:
        self._check_open()
        kept = [record for record in self._audit if record.at >= before]
        trimmed = len(self._audit) - len(kept)
        self._audit = kept
        return trimmed

    async def close(self) -> None:
        self._closed = True

    def every_version(self) -> Sequence[SecretRow]:
        """All rows of all tenants by name and version, also after `close`: to move them to another store."""
        return [self._rows[place] for place in sorted(self._rows)]

    def every_audit_record(self) -> Sequence[AuditRecord]:
        """Oldest first, also after `close`."""
        return tuple(self._audit)

    def _changed(self, audit: AuditRecord, version: int) -> None:
        self._epoch += 1
        self._append(dataclasses.replace(audit, version=version))

    def _append(self, record: AuditRecord) -> None:
        self._audit_sequence += 1
        self._audit.append(dataclasses.replace(record, sequence=self._audit_sequence))
        if len(self._audit) > AUDIT_RECORDS_MAX:
            del self._audit[: AUDIT_RECORDS_MAX // 10]

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the vault's store is closed")
