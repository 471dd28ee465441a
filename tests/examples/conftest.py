"""The real servers that the examples use are those of the integration tests."""

from integration.conftest import postgres, postgres_server, temporary_root, valkey, valkey_server

__all__ = ["postgres", "postgres_server", "temporary_root", "valkey", "valkey_server"]
