"""`torana doctor`: finds what is wrong with a server's surroundings and says what to do."""

from __future__ import annotations

import typer

from torana_server.cli.config import Config
from torana_server.cli.exits import errors_reported
from torana_server.cli.output import Format, Output


def doctor(config: Config = None, output_format: Output = Format.TABLE) -> None:
    """Find what keeps a server from starting here or from being safe, and say what to do about it.

    Looks at the settings, the data folder, the journal, the vault's key, the address, certificates, the disk, the clock
    and this installation, with or without a server running. It changes nothing and shows no secrets.

    Exit codes: 0 no problem (warnings are none), 1 there are problems.
    """
    from torana_server.cli.diagnosis import diagnose  # noqa: PLC0415 — brings journal and vault

    with errors_reported():
        raise typer.Exit(diagnose(config, output_format))
