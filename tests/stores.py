"""Where a server of a test keeps its journal: in a folder, or in PostgreSQL."""

from __future__ import annotations

import pytest

from integration.conftest import PostgresServer

KEYS = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
LEASE_S = 1
"""So that a test does not wait for long for what a killed server had."""
STORES = ("sqlite", "postgresql")
on_both_stores = pytest.mark.parametrize("store", STORES, indirect=True)
"""For a test whose server is made with what the fixture `store` gives."""


def settings(request: pytest.FixtureRequest) -> dict[str, object]:
    """Of the store that the fixture was asked for; SQLite unless a test asks."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return {}
    cluster: PostgresServer = request.getfixturevalue("postgres_server")
    return {"journal": cluster.database("blank").url, "vault_keys": KEYS, "lease_s": LEASE_S}
