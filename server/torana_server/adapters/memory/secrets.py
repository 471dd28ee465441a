"""The in-memory secret store. It lives in the vault, which needs it before any store is chosen."""

from torana_server.vault import MemorySecretStore

__all__ = ["MemorySecretStore"]
