"""TLS of both clients against a real server that asks for a client certificate."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import torana
from torana import TlsConfig, errors
from torana.v1 import system_service_pb2, system_service_pb2_grpc
from unit.client.runs import Run, run

__all__ = ["run"]  # a fixture

NAME = "torana.test"


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for both sides, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return signed.public_bytes(encoding), key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)


class Info(system_service_pb2_grpc.SystemServiceServicer):
    async def GetInfo(self, request: Any, context: Any) -> system_service_pb2.GetInfoResponse:
        return system_service_pb2.GetInfoResponse(title="over TLS")

    async def GetHealth(self, request: Any, context: Any) -> system_service_pb2.GetHealthResponse:
        raise AssertionError("nobody asks for it")

    async def GetStats(self, request: Any, context: Any) -> system_service_pb2.GetStatsResponse:
        raise AssertionError("nobody asks for it")


class TlsServer:
    def __init__(self, cert: bytes, key: bytes, port: int) -> None:
        self.cert, self.key = cert, key
        self.address = f"https://127.0.0.1:{port}"


@pytest.fixture
async def tls_server() -> AsyncIterator[TlsServer]:
    cert, key = certificate()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    system_service_pb2_grpc.add_SystemServiceServicer_to_server(Info(), server)
    credentials = grpc.ssl_server_credentials([(key, cert)], root_certificates=cert, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield TlsServer(cert, key, port)
    await server.stop(None)


async def test_certificates_are_taken_as_bytes_and_as_files(tls_server: TlsServer, run: Run, tmp_path: Path) -> None:
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(tls_server.cert)
    key_file.write_bytes(tls_server.key)
    as_bytes = TlsConfig(ca=tls_server.cert, cert=tls_server.cert, key=tls_server.key, server_name=NAME)
    as_files = TlsConfig(ca=str(cert_file), cert=cert_file, key=key_file, server_name=NAME)
    for tls in (as_bytes, as_files):
        found = await run.call(tls_server, lambda client: client.get_info(), tls=tls)  # type: ignore[arg-type]
        assert found.title == "over TLS"


@pytest.mark.parametrize("tls", [None, TlsConfig(server_name=NAME)])
async def test_a_server_the_client_cannot_trust_is_given_up(tls_server: TlsServer, tls: TlsConfig | None) -> None:
    patience = torana.ReconnectPolicy(initial_s=0.05, max_s=0.05, connect_timeout_s=0.3)
    async with torana.Client(tls_server.address, tls=tls, reconnect=patience) as client:
        with pytest.raises(errors.ConnectionLostError):
            await client.execute_workflow("etl")
