"""Which server to talk to: the options that every client command has."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

import torana
from torana_server.cli.exits import Exit, UsageError, errors_reported
from torana_server.settings import SERVER_VARIABLE

DEFAULT_ADDRESS = "127.0.0.1:7233"
CONNECT_TIMEOUT_S = 10.0
PANEL = "Connection"

Own = ParamSpec("Own")


@dataclass(frozen=True, slots=True)
class Connection:
    """The fields are the options, with their help."""

    address: Annotated[
        str,
        typer.Option(
            envvar=SERVER_VARIABLE, rich_help_panel=PANEL, help="host:port or https://host:port of the server."
        ),
    ] = DEFAULT_ADDRESS
    tls: Annotated[bool, typer.Option("--tls", rich_help_panel=PANEL, help="Use TLS, trusting the system's roots.")] = (
        False
    )
    tls_ca: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, rich_help_panel=PANEL, help="Trust this CA (PEM). Uses TLS."),
    ] = None
    tls_cert: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, rich_help_panel=PANEL, help="Your own certificate (PEM). Uses TLS."),
    ] = None
    tls_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, rich_help_panel=PANEL, help="Its private key (PEM).")
    ] = None

    @property
    def shown(self) -> str:
        """What a hint must add to reach the same server: nothing when it is where commands look anyway."""
        return "".join(self._options())

    def _options(self) -> Iterator[str]:
        if self.address != DEFAULT_ADDRESS:
            yield f" --address {self.address}"
        if self.tls:
            yield " --tls"
        files = {"--tls-ca": self.tls_ca, "--tls-cert": self.tls_cert, "--tls-key": self.tls_key}
        yield from (f" {option} {path}" for option, path in files.items() if path)

    def client(self) -> torana.Client:
        return torana.Client(self.address, tls=self.tls_config(), reconnect=_PATIENCE)

    def blocking_client(self, timeout_s: float = CONNECT_TIMEOUT_S) -> torana.BlockingClient:
        return torana.BlockingClient(self.address, tls=self.tls_config(), timeout_s=timeout_s, reconnect=_PATIENCE)

    def tls_config(self) -> torana.TlsConfig | None:
        """None for plain text. A URL may ask for TLS by itself."""
        if not (self.tls or self.tls_ca or self.tls_cert or self.tls_key):
            return None
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key belong together; give both or neither")
        return torana.TlsConfig(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key)


_PATIENCE = torana.ReconnectPolicy(max_s=5.0, connect_timeout_s=CONNECT_TIMEOUT_S)
"""Someone is waiting at the terminal: say soon that there is no server."""

_OPTIONS = tuple(inspect.signature(Connection, eval_str=True).parameters.values())


def connected(command: Callable[Concatenate[Connection, Own], Exit | None]) -> Callable[..., None]:
    """A command with the options of Connection in place of its first parameter.

    Its errors are told with hints that reach the same server. It ends with the code it returns; None is success.
    """
    body: Callable[..., Exit | None] = command
    _, *own = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def call(**given: Any) -> None:
        connection = Connection(**{option.name: given.pop(option.name) for option in _OPTIONS})
        with errors_reported(connection.shown, connection.address):
            raise typer.Exit(body(connection, **given) or Exit.COMPLETED)

    parameters = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in (*own, *_OPTIONS)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it
    return call
