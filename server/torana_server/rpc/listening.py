"""Where the server listens and with which certificate."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import grpc

from torana_server.core.errors import InvalidRequestError, Violation
from torana_server.rpc.settings import RpcSettings

PORT_MAX = 65_535


def check_address(settings: RpcSettings) -> None:
    """Raises InvalidRequestError for an address that is none, and for one that others can reach without TLS, unless
    that was asked for."""
    if not _has_port(settings.address):
        raise _refused("address", f"{settings.address!r} needs a port from 0 (any that is free) to {PORT_MAX}")
    if settings.tls_cert is not None or settings.allow_insecure or is_local(settings.address):
        return
    raise _refused(
        "address",
        f"{settings.address} can be reached from other machines and nothing would be encrypted; give tls_cert and "
        "tls_key, listen on 127.0.0.1, or set allow_insecure if something in front encrypts",
    )


def _has_port(address: str) -> bool:
    """gRPC takes a port above the largest modulo 65,536."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    port = address.rpartition(":")[2]
    return port.isascii() and port.isdecimal() and int(port) <= PORT_MAX


def is_local(address: str) -> bool:
    """Whether only this machine can reach it."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def credentials(settings: RpcSettings) -> grpc.ServerCredentials | None:
    """None without TLS. Raises InvalidRequestError for files that cannot be read or do not fit together."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    cert = _read("tls_cert", settings.tls_cert)
    key = _read("tls_key", settings.tls_key)
    ca = None if settings.tls_client_ca is None else _read("tls_client_ca", settings.tls_client_ca)
    _check_pair(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=ca is not None)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(setting, f"{path} cannot be read: {error.strerror}") from error


def _check_pair(cert: Path, key: Path, client_ca: Path | None) -> None:
    """gRPC finds a bad file at the first handshake and then tells nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=b"")  # never asks the terminal for one
    except (ssl.SSLError, ValueError) as error:
        raise _refused("tls_cert", f"{cert} and {key} are no certificate and its unencrypted key (PEM)") from error
    if client_ca is None:
        return
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise _refused("tls_client_ca", f"{client_ca} holds no certificate (PEM)") from error


def _refused(setting: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"the server cannot listen: {problem}", violations=[Violation(setting, problem)])
