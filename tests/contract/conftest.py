"""The PostgreSQL that adapters are held to the contracts on is that of the integration tests."""

from integration.conftest import postgres, postgres_server, postgres_url, temporary_root

__all__ = ["postgres", "postgres_server", "postgres_url", "temporary_root"]
