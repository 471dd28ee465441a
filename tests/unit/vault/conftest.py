"""A vault for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from torana_server.vault import (
    SecretManager,
)
from unit.vault.world import KEYRING, CountingStore, Vault


@pytest.fixture
async def vault() -> AsyncIterator[Vault]:
    made = Vault(CountingStore())
    await made.manager.open(made.store, KEYRING)
    yield made
    await made.manager.close()


@pytest.fixture
def manager(vault: Vault) -> SecretManager:
    return vault.manager
