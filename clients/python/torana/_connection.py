"""Where the server is and how its channel is set up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from torana.errors import InvalidRequestError, Violation

DEFAULT_PORT = 7233
RECEIVE_BYTES_MAX = 64 * 1024 * 1024
"""An answer with the results of many steps is far above gRPC's own 4 MiB."""
SEND_BYTES_MAX = 16 * 1024 * 1024

_PLAIN_SCHEMES = ("http", "grpc")
_TLS_SCHEMES = ("https", "grpcs")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """`ca`, `cert` and `key` are PEM: bytes, or the path of a file.

    Without `ca` the system's roots are trusted. `cert` and `key` together are the client's own certificate.
    `server_name` is the name expected in the server's certificate when it differs from the address.
    """

    ca: bytes | str | Path | None = None
    cert: bytes | str | Path | None = None
    key: bytes | str | Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise _refused("tls", "`cert` and `key` belong together; give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises OSError when one cannot be read."""
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.cert))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`target` as gRPC takes it. `tls` is None for plain text."""

    target: str
    tls: TlsConfig | None

    def options(self) -> list[tuple[str, Any]]:
        """Channel options. gRPC pings after 30 s of silence and gives up after 10 s; a new connection is tried
        quickly because the streams' own pauses come on top."""
        options: list[tuple[str, Any]] = [
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 5_000),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.use_local_subchannel_pool", 1),  # or a new channel would take over the connection of the one left
            ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
            ("grpc.max_send_message_length", SEND_BYTES_MAX),
        ]
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options


def endpoint(address: str, tls: TlsConfig | None) -> Endpoint:
    """From "host", "host:port", a URL of http, https, grpc or grpcs, or a gRPC name such as "unix:/run/torana.sock".

    https and grpcs mean TLS with the system's roots unless `tls` says more. Raises InvalidRequestError.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        target = address if address.startswith(("unix:", "dns:", "ipv4:", "ipv6:")) else _with_port(address)
        return Endpoint(target, tls)
    if scheme in ("dns", "unix"):
        return Endpoint(address, tls)
    if scheme in _PLAIN_SCHEMES and tls is not None:
        raise _refused("address", f"{scheme}:// is plain text, but `tls` is given; write {scheme}s:// or drop one")
    if scheme not in _PLAIN_SCHEMES + _TLS_SCHEMES:
        raise _refused("address", f"{scheme}:// is not known; write host:port, http:// or https://")
    host, _, path = rest.partition("/")
    if path:
        raise _refused("address", f"/{path} cannot be used: gRPC has no base path; write {scheme}://{host}")
    return Endpoint(_with_port(host), (tls or TlsConfig()) if scheme in _TLS_SCHEMES else None)


def headers(metadata: Mapping[str, str] | Iterable[tuple[str, str]] | None) -> tuple[tuple[str, str], ...]:
    pairs = metadata.items() if isinstance(metadata, Mapping) else metadata or ()
    return tuple((key.lower(), value) for key, value in pairs)


def _with_port(host: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/@\[\]]+)(:\d{1,5})?", host):
        raise _refused("address", f"{host!r} is not host:port; an IPv6 address goes in brackets: [::1]:7233")
    return host if re.search(r":\d+$", host.rpartition("]")[2]) else f"{host}:{DEFAULT_PORT}"


def _pem(source: bytes | str | Path | None) -> bytes | None:
    return Path(source).read_bytes() if isinstance(source, str | Path) else source


def _refused(path: str, message: str) -> InvalidRequestError:
    violation = Violation(path, message)
    return InvalidRequestError("the client cannot be set up", reason="INVALID_REQUEST", violations=[violation])
