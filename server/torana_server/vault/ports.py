"""What the vault needs from a store."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torana_server.core.clock import Micros


class Action(enum.StrEnum):
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ROTATE = "rotate"


class Outcome(enum.StrEnum):
    OK = "ok"
    NOT_FOUND = "not_found"
    EXPIRED = "expired"
    CORRUPT = "corrupt"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to which secret, and whether it worked. Never a value.

    `version` is None where none is concerned. `purpose` is free text, such as an execution and a resource.
    `sequence` grows with time and is given by the store.
    """

    at: Micros
    tenant: str
    subject: str
    action: Action
    name: str
    version: int | None = None
    purpose: str = ""
    outcome: Outcome = Outcome.OK
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be known of a secret: its latest version (from 1), when its first and latest were stored, and
    when the latest expires (None: never)."""

    name: str
    version: int
    create_time: Micros
    update_time: Micros
    expire_time: Micros | None = None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """What may be known of one version: when it was stored and when it expires (None: never)."""

    version: int
    create_time: Micros
    expire_time: Micros | None = None


@dataclass(frozen=True, slots=True)
class SecretRow:
    """One version as stored. `envelope` is opaque to a store."""

    tenant: str
    name: str
    version: int
    envelope: bytes
    expire_time: Micros | None = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version about to be stored. `seal(version)` gives its envelope; it is quick and does no IO."""

    tenant: str
    name: str
    at: Micros
    seal: Callable[[int], bytes]
    expire_time: Micros | None = None


@dataclass(frozen=True, slots=True)
class TenantKeyRow:
    """A tenant key wrapped by the key-encryption key `key_id`. `version` counts from 1."""

    tenant: str
    version: int
    key_id: str
    wrapped: bytes


class SecretStore(Protocol):
    """Durable rows of one vault.

    Every method is atomic, and a change is durable when its method returns. Nothing read or changed under
    one tenant touches another's rows. Methods that take an `AuditRecord` append it in the transaction of the
    change: both happen or neither. UnavailableError means that the outcome of a change is unknown.
    """

    async def put(self, new: NewVersion, audit: AuditRecord) -> SecretInfo:
        """Adds the version after the latest, from 1, and advances the epoch.

        `new.seal` is called once, within the transaction, with that version. What it raises is passed on and
        nothing is stored. Versions of a deleted name go on counting, so (name, version) never means two
        values. The audit record gets the version.
        """
        ...

    async def get(self, tenant: str, name: str, version: int | None) -> SecretRow | None:
        """One version, the latest for None; None if it does not exist."""
        ...

    async def describe(self, tenant: str, name: str) -> SecretInfo | None: ...

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[SecretInfo]:
        """By name, those greater than `after` in order of code points."""
        ...

    async def versions(self, tenant: str, name: str, before: int | None, limit: int) -> Sequence[VersionInfo]:
        """Latest first; those with a number below `before`, or all. A secret that does not exist has none."""
        ...

    async def delete(self, tenant: str, name: str, audit: AuditRecord) -> bool:
        """Destroys every version and advances the epoch; False, changing nothing, if there is none.

        The audit record gets the latest version.
        """
        ...

    async def tenant_key(self, tenant: str, version: int | None) -> TenantKeyRow | None:
        """One version, the latest for None; None if it does not exist."""
        ...

    async def add_tenant_key(self, row: TenantKeyRow) -> TenantKeyRow:
        """Adds `row` unless (tenant, version) exists. Returns what is stored, which may be another's."""
        ...

    async def tenant_keys_to_rewrap(
        self, key_id: str, after: tuple[str, int] | None, limit: int
    ) -> Sequence[TenantKeyRow]:
        """Tenant keys wrapped by another key than `key_id`, in order of (tenant, version), after `after`."""
        ...

    async def rewrap_tenant_key(self, row: TenantKeyRow, new: TenantKeyRow, audit: AuditRecord) -> bool:
        """Replaces `row` by `new` (same tenant and version) only if `row` is stored exactly so; else False."""
        ...

    async def tenant_keys_by_key(self) -> Mapping[str, int]:
        """How many tenant keys each key-encryption key wraps. Keys that wrap none are absent."""
        ...

    async def canary(self, key_id: str) -> bytes | None: ...

    async def add_canary(self, key_id: str, wrapped: bytes) -> bytes:
        """Adds the canary unless the key has one. Returns what is stored."""
        ...

    async def epoch(self) -> int:
        """A number that grows with every `put` and `delete` of any process."""
        ...

    def listen(self, changed: Callable[[], None]) -> None:
        """Calls `changed` on the event loop whenever another process may have advanced the epoch, until the store is
        closed. A hint that may be late, merged or lost, or never come: poll the epoch behind it."""
        ...

    async def append_audit(self, records: Sequence[AuditRecord]) -> None:
        """All or none, in order."""
        ...

    async def audit(self, tenant: str, before: int | None, limit: int) -> Sequence[AuditRecord]:
        """Newest first; those with a sequence below `before`, or all."""
        ...

    async def trim_audit(self, before: Micros) -> int:
        """Removes the records of every tenant that are older than `before`; returns how many."""
        ...

    async def close(self) -> None:
        """Releases what the store holds. Calling it again does nothing; other methods then raise
        UnavailableError."""
        ...
