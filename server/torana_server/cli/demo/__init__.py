"""`torana demo`: the main job on real data, against a real PostgreSQL and a real Valkey."""

from torana_server.cli.demo.command import demo

__all__ = ["demo"]
