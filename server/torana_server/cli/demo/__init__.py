"""`torana demo`: the main job on real data, against a real PostgreSQL and a real Valkey."""

from __future__ import annotations

__all__ = ["demo"]


def demo() -> None:
    """Show Torana at work: a real database, a real cache, real data, a connection that breaks. Takes seconds.

    Starts a PostgreSQL, a Valkey and a Torana server in a private folder, runs a workflow over gRPC from this process
    and removes everything again, also on Ctrl-C.
    """
    from torana_server.cli.demo.command import show  # noqa: PLC0415 — brings drivers that other commands do without

    show()
