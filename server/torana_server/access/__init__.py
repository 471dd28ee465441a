"""Who is calling."""

from torana_server.access.principal import LOCAL, Principal

__all__ = ["LOCAL", "Principal"]
