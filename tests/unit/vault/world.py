"""A vault whose store behaves and whose time is told, never awaited."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from torana_server.access import LOCAL, Principal
from torana_server.core.clock import Micros, from_datetime
from torana_server.core.errors import (
    UnavailableError,
)
from torana_server.vault import (
    Keyring,
    LocalKey,
    MemorySecretStore,
    SecretManager,
    SecretRow,
)

ALICE = Principal("acme", "alice")
BOB = Principal("other", "bob")
CREDENTIALS = {"user": "app", "password": "hunter22-hunter22"}
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Time:
    """A wall clock and a monotonic clock that go only when told to."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> Micros:
        return from_datetime(NOON + timedelta(seconds=self.elapsed_s))

    def monotonic(self) -> float:
        return self.elapsed_s


class CountingStore(MemorySecretStore):
    """Counts reads of secrets, and can be out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0
        self.away = False

    async def get(self, tenant: str, name: str, version: int | None) -> SecretRow | None:
        self.gets += 1
        return await super().get(tenant, name, version)

    async def epoch(self) -> int:
        if self.away:
            raise UnavailableError("away")
        return await super().epoch()


class Vault:
    """A manager opened over `store`, as a gateway does it."""

    def __init__(self, store: CountingStore, **settings: Any) -> None:
        self.time = Time()
        self.store = store
        self.manager = SecretManager(clock=self.time, monotonic=self.time.monotonic, **settings)


def key(key_id: str) -> LocalKey:
    return LocalKey(key_id, os.urandom(32))


KEYRING = Keyring([key("k1")])


async def outcomes(manager: SecretManager, principal: Principal = LOCAL) -> list[tuple[str, int | None, str]]:
    """Oldest first."""
    records = await manager.audit(principal=principal)
    return [(str(r.action), r.version, str(r.outcome)) for r in reversed(records)]
