"""The address to listen on, and the certificate to listen with."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509

from torana_server.core.errors import InvalidRequestError
from torana_server.doctor.findings import Finding, ok, problem, warning
from torana_server.rpc import RpcSettings
from torana_server.rpc.listening import check_address, credentials
from torana_server.settings import Settings

EXPIRY_NEAR = timedelta(days=21)


class Around(Protocol):
    @property
    def server_at(self) -> Callable[[str], str | None]: ...
    @property
    def now(self) -> Callable[[], datetime]: ...


def examine(settings: Settings, folder_in_use: bool, around: Around) -> Iterator[Finding]:
    try:
        face = RpcSettings(
            address=settings.address,
            tls_cert=settings.tls_cert,
            tls_key=settings.tls_key,
            tls_client_ca=settings.tls_client_ca,
            allow_insecure=settings.allow_insecure,
        )
        check_address(face)
        credentials(face)
    except InvalidRequestError as error:
        for violation in error.violations:
            yield problem("listening", str(violation), "correct the settings; see docs/configuration.md")
        return
    yield address(settings, folder_in_use, around.server_at)
    if settings.tls_cert is not None and settings.tls_key is not None:
        yield from certificate(settings.tls_cert, around.now())
        yield from key_mode(settings.tls_key)


def address(settings: Settings, folder_in_use: bool, server_at: Callable[[str], str | None]) -> Finding:
    if settings.address.startswith("unix:"):
        return _socket_file(Path(settings.address.removeprefix("unix:")))
    try:
        _bind(settings.address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _taken(settings, folder_in_use, server_at)
        reason = error.strerror or str(error)
        return problem("address", f"{settings.address} cannot be listened on: {reason}", "choose another address")
    return ok("address", f"{settings.address} is free")


def _bind(address: str) -> None:
    host, _, port = address.rpartition(":")
    family, kind, number, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, number) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)


def _taken(settings: Settings, folder_in_use: bool, server_at: Callable[[str], str | None]) -> Finding:
    named = server_at(settings.address) if settings.tls_cert is None else None
    if named is None and not (settings.tls_cert is not None and folder_in_use):
        advice = "stop that program, or choose another address"
        return problem("address", f"another program listens on {settings.address}", advice)
    server = named or "a server with TLS, presumably the one that has the data folder"
    if folder_in_use:
        return ok("address", f"{server} listens on {settings.address}")
    advice = "stop it, or choose another address, before a server starts with this folder"
    return warning("address", f"{server} listens on {settings.address}, with another data folder", advice)


def _socket_file(path: Path) -> Finding:
    if not path.parent.is_dir():
        return problem("address", f"there is no folder {path.parent} for the socket", f"mkdir -p {path.parent}")
    return ok("address", f"unix:{path}, {'which is there' if path.exists() else 'not there yet'}")


def certificate(path: Path, now: datetime) -> Iterator[Finding]:
    last = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    days = (last - now).days
    if last <= now:
        yield problem("certificate", f"{path} expired at {last.isoformat()}", "renew it: every client refuses it")
    elif last - now < EXPIRY_NEAR:
        yield warning("certificate", f"{path} expires in {days} days", "renew it and start the server again")
    else:
        yield ok("certificate", f"{path}, valid for {days} more days")


def key_mode(path: Path) -> Iterator[Finding]:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        yield warning("certificate", f"others may read its key {path} (mode {mode:04o})", f"chmod 600 {path}")
