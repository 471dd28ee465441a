"""The command line. It talks to servers through the client package alone, as any other program does."""

from torana_server.cli.root import main

__all__ = ["main"]
