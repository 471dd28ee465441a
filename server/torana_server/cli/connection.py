"""Which server to talk to: the options that every client command has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import torana
from torana_server.cli.exits import UsageError

DEFAULT_ADDRESS = "127.0.0.1:7233"
CONNECT_TIMEOUT_S = 10.0
PANEL = "Connection"

Address = Annotated[
    str,
    typer.Option(envvar="TORANA_ADDRESS", rich_help_panel=PANEL, help="host:port or https://host:port of the server."),
]
Tls = Annotated[bool, typer.Option("--tls", rich_help_panel=PANEL, help="Use TLS, trusting the system's roots.")]
TlsCa = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, rich_help_panel=PANEL, help="Trust this CA (PEM). Uses TLS.")
]
TlsCert = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, rich_help_panel=PANEL, help="Your own certificate (PEM). Uses TLS."),
]
TlsKey = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, rich_help_panel=PANEL, help="Its private key (PEM).")
]


@dataclass(frozen=True, slots=True)
class Connection:
    address: str
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def shown(self) -> str:
        """What a hint must add to reach the same server: nothing when it is where commands look anyway."""
        return "" if self.address == DEFAULT_ADDRESS else f" --address {self.address}"

    def client(self) -> torana.Client:
        return torana.Client(self.address, tls=self.tls_config(), reconnect=_PATIENCE)

    def blocking_client(self) -> torana.BlockingClient:
        return torana.BlockingClient(self.address, tls=self.tls_config(), timeout_s=CONNECT_TIMEOUT_S)

    def tls_config(self) -> torana.TlsConfig | None:
        """None for plain text. A URL may ask for TLS by itself."""
        if not (self.tls or self.tls_ca or self.tls_cert or self.tls_key):
            return None
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key belong together; give both or neither")
        return torana.TlsConfig(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)


_PATIENCE = torana.ReconnectPolicy(max_s=5.0, connect_timeout_s=CONNECT_TIMEOUT_S)
"""Someone is waiting at the terminal: say soon that there is no server."""
