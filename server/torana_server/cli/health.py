"""`torana health`: how the server is. For people, containers and load balancers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.text import Text

from torana import ComponentHealth, ServerHealth
from torana_server.cli import output
from torana_server.cli.connection import Connection, connected
from torana_server.cli.exits import Exit, UsageError
from torana_server.cli.output import Format, Output
from torana_server.cli.view import Head, Listing, latency_cell, state_cell, text_cell, time_cell

TLS_SCHEMES = ("https", "grpcs")
DEFAULT_PORT = 7233


@connected
def health(
    connection: Connection,
    *,
    service: Annotated[
        str | None, typer.Option(help="Ask the gRPC health service about this service alone; '' is the whole server.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long to wait.")] = 3.0,
    output_format: Output = Format.TABLE,
) -> Exit:
    """Show how the server is, component by component.

    The code is 0 while the server can do its work, also with a resource that does not answer, and 1 when it cannot
    or is shutting down. With --service the standard gRPC health service is asked, as load balancers do.
    """
    if service is not None:
        return _check(connection, service, timeout, output_format)
    with connection.blocking_client(timeout) as client:
        found = client.get_health()
    output.answer(found, output_format, lambda console: _print(found, console))
    return Exit.FAILED if found.status == "unhealthy" or found.draining else Exit.COMPLETED


def _print(found: ServerHealth, console: Console) -> None:
    if not console.soft_wrap:
        shown = state_cell("draining" if found.draining else found.status).shown
        console.print(Text.assemble("The server is ", shown, "."))
        console.print()
    output.print_listing(health_listing(found.components, datetime.now(UTC)), console)


def health_listing(components: tuple[ComponentHealth, ...], now: datetime) -> Listing:
    heads = Head("component"), Head("status"), Head("latency", right=True), Head("since", right=True)
    return Listing(
        heads=(*heads, Head("last error", gives_way=True)),
        rows=[
            (
                text_cell(one.name),
                state_cell(one.status),
                latency_cell(one.latency),
                time_cell(one.since, now),
                text_cell(one.last_error),
            )
            for one in components
        ],
    )


def _check(connection: Connection, service: str, timeout_s: float, form: Format) -> Exit:
    status = _serving_status(connection, service, timeout_s)
    said = status.lower().replace("_", " ")
    output.answer({"service": service, "status": said}, form, lambda console: output.write_line(said))
    return Exit.COMPLETED if status == "SERVING" else Exit.FAILED


def _serving_status(connection: Connection, service: str, timeout_s: float) -> str:
    request = health_pb2.HealthCheckRequest(service=service)
    with _channel(connection) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as failure:
            raise _failed(failure, connection.address, service) from None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _failed(failure: Any, address: str, service: str) -> Exception:
    if failure.code() is grpc.StatusCode.NOT_FOUND:
        return UsageError(f"the server at {address} has no service {service!r}")
    output.report(f"no answer from {address}: {failure.details() or failure.code().name}")
    return typer.Exit(Exit.UNAVAILABLE)


def _channel(connection: Connection) -> grpc.Channel:
    scheme, separator, rest = connection.address.partition("://")
    host = rest.rstrip("/") if separator and scheme not in ("dns", "unix") else connection.address
    target = host if ":" in host.rpartition("]")[2] else f"{host}:{DEFAULT_PORT}"
    tls = connection.tls_config()
    if tls is None and scheme not in TLS_SCHEMES:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, _credentials(connection))


def _credentials(connection: Connection) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(*(path and path.read_bytes() for path in _files(connection)))


def _files(connection: Connection) -> Iterator[Any]:
    yield from (connection.tls_ca, connection.tls_key, connection.tls_cert)
