"""`torana health`: does the server serve? For people, containers and load balancers."""

from __future__ import annotations

from typing import Annotated, Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from torana_server.cli import output
from torana_server.cli.connection import DEFAULT_ADDRESS, Address, Connection, Tls, TlsCa, TlsCert, TlsKey
from torana_server.cli.exits import Exit, errors_reported

TLS_SCHEMES = ("https", "grpcs")
DEFAULT_PORT = 7233


def health(
    service: Annotated[str, typer.Option(help="A service's full name; none: the whole server.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long to wait.")] = 3.0,
    address: Address = DEFAULT_ADDRESS,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Ask the server, by the standard gRPC health service, whether it serves.

    Exit codes: 0 serving, 1 not serving, 2 usage, 4 no answer.
    """
    with errors_reported():
        raise typer.Exit(_check(Connection(address, tls, tls_ca, tls_cert, tls_key), service, timeout))


def _check(connection: Connection, service: str, timeout_s: float) -> Exit:
    request = health_pb2.HealthCheckRequest(service=service)
    with _channel(connection) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as failure:
            return _failed(failure, connection.address, service)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    output.write_line(status.lower().replace("_", " "))
    return Exit.COMPLETED if status == "SERVING" else Exit.FAILED


def _failed(failure: Any, address: str, service: str) -> Exit:
    if failure.code() is grpc.StatusCode.NOT_FOUND:
        output.report(f"the server at {address} has no service {service!r}")
        return Exit.USAGE
    output.report(f"no answer from {address}: {failure.details() or failure.code().name}")
    return Exit.UNAVAILABLE


def _channel(connection: Connection) -> grpc.Channel:
    scheme, separator, rest = connection.address.partition("://")
    host = rest.rstrip("/") if separator and scheme not in ("dns", "unix") else connection.address
    target = host if ":" in host.rpartition("]")[2] else f"{host}:{DEFAULT_PORT}"
    tls = connection.tls_config()
    if tls is None and scheme not in TLS_SCHEMES:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, _credentials(connection))


def _credentials(connection: Connection) -> grpc.ChannelCredentials:
    ca, cert, key = (
        path.read_bytes() if path else None for path in (connection.tls_ca, connection.tls_cert, connection.tls_key)
    )
    return grpc.ssl_channel_credentials(ca, key, cert)
