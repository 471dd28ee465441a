"""The command line. It talks to servers through the client package alone, as any other program does."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

GRPC_VERBOSITY = "GRPC_VERBOSITY"
INTERRUPTED = 130
COMPLETING = "_TORANA_COMPLETE"
"""Set by the scripts of `torana completion`."""


def main() -> None:
    """Runs the command in `sys.argv`.

    Everything else is imported here, so that Ctrl-C in the first moments, or while a shell completes, ends the process
    as it ends any other, and not with Python's account of what it interrupted. What gRPC would write to standard error
    by itself is told as an error of the command; `GRPC_VERBOSITY` brings it back.
    """
    os.environ.setdefault(GRPC_VERBOSITY, "NONE")
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from torana_server.cli.root import ready  # noqa: PLC0415 — takes half a second

    command = ready()
    if COMPLETING not in os.environ:
        signal.signal(signal.SIGINT, interrupted)
    try:
        command()
    except KeyboardInterrupt:  # between the command and the end of the process
        sys.exit(INTERRUPTED)
