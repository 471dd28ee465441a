"""The command line. It talks to servers through the client package alone, as any other program does."""

from __future__ import annotations

import os
import signal

__all__ = ["main"]

GRPC_VERBOSITY = "GRPC_VERBOSITY"


def main() -> None:
    """Runs the command in `sys.argv`.

    Everything else is imported here, so that Ctrl-C in the first moments ends the process as it ends any other, and
    not with Python's account of the import it interrupted. What gRPC would write to standard error by itself is told
    as an error of the command; `GRPC_VERBOSITY` brings it back.
    """
    os.environ.setdefault(GRPC_VERBOSITY, "NONE")
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from torana_server.cli.root import main as run  # noqa: PLC0415 — takes half a second

    signal.signal(signal.SIGINT, interrupted)
    run()
