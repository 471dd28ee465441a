"""Addresses, TLS and what gRPC itself limits."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from integration.rpc.parts import Parts, serving
from integration.rpc.problems import problem_of
from torana.v1 import system_service_pb2
from torana_server.core.errors import InvalidRequestError
from torana_server.rpc import GrpcServer, RpcSettings

INFO = system_service_pb2.GetInfoRequest()


class Authority:
    """A CA in a folder. `issue` gives the paths of a certificate and its key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        certificate = self._build(self._name, self._key, ca=True)
        self.path = folder / "ca.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert_path, key_path = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_path.write_bytes(self._build(subject, key, ca=False).public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_path, key_path

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


def secure(parts: Parts, ca: Path, client: tuple[Path, Path] | None = None) -> grpc.aio.Channel:
    cert, key = client or (None, None)
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(), key.read_bytes() if key else None, cert.read_bytes() if cert else None
    )
    return grpc.aio.secure_channel(f"localhost:{parts.server.port}", credentials)


async def test_a_server_with_a_certificate_speaks_tls_only(authority) -> None:
    cert, key = authority.issue("server")
    async with serving(RpcSettings(address="127.0.0.1:0", tls_cert=cert, tls_key=key)) as parts:
        async with secure(parts, authority.path) as channel:
            assert (await parts.through(channel).call("SystemService/GetInfo", INFO)).title == "Test"
        assert (await problem_of(parts.call("SystemService/GetInfo", INFO))).code is grpc.StatusCode.UNAVAILABLE


async def test_clients_need_a_certificate_of_the_given_ca(authority, tmp_path) -> None:
    cert, key = authority.issue("server")
    settings = RpcSettings(address="127.0.0.1:0", tls_cert=cert, tls_key=key, tls_client_ca=authority.path)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("client")
    async with serving(settings) as parts:
        async with secure(parts, authority.path, authority.issue("client")) as channel:
            assert (await parts.through(channel).call("SystemService/GetInfo", INFO)).title == "Test"
        for client in (None, stranger):
            async with secure(parts, authority.path, client) as channel:
                problem = await problem_of(parts.through(channel).call("SystemService/GetInfo", INFO))
                assert problem.code is grpc.StatusCode.UNAVAILABLE


async def refusal(parts: Parts, settings: RpcSettings) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        await GrpcServer(parts.faces, settings).start()
    return str(refused.value)


async def test_files_that_are_no_certificate_and_key_are_named_at_start(parts: Parts, authority, tmp_path) -> None:
    cert, key = authority.issue("server")
    _, other_key = authority.issue("other")
    missing, junk = tmp_path / "missing.pem", tmp_path / "junk.pem"
    junk.write_text("junk")
    assert "missing.pem cannot be read: No such file" in await refusal(parts, tls(missing, key))
    assert "no certificate and its unencrypted key" in await refusal(parts, tls(cert, other_key))
    assert "no certificate and its unencrypted key" in await refusal(parts, tls(junk, key))
    assert "junk.pem holds no certificate" in await refusal(parts, tls(cert, key, junk))


def tls(cert: Path, key: Path, client_ca: Path | None = None) -> RpcSettings:
    return RpcSettings(address="127.0.0.1:0", tls_cert=cert, tls_key=key, tls_client_ca=client_ca)


async def test_an_encrypted_key_is_refused_without_asking_for_its_password(parts: Parts, authority) -> None:
    cert, key = authority.issue("server")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
    )
    assert "unencrypted key" in await refusal(parts, tls(cert, key))


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "torana.example.com:0", "*:0"])
async def test_an_address_that_others_reach_needs_tls_or_consent(parts: Parts, address) -> None:
    with pytest.raises(InvalidRequestError, match="tls_cert"):
        GrpcServer(parts.faces, RpcSettings(address=address))
    GrpcServer(parts.faces, RpcSettings(address=address, allow_insecure=True))


async def test_a_unix_socket_is_local(tmp_path) -> None:
    address = f"unix:{tmp_path}/torana.sock"
    async with serving(RpcSettings(address=address)) as parts, grpc.aio.insecure_channel(address) as channel:
        assert (await parts.through(channel).call("SystemService/GetInfo", INFO)).title == "Test"


async def test_a_second_server_cannot_take_the_port(parts: Parts) -> None:
    settings = RpcSettings(address=f"127.0.0.1:{parts.server.port}")
    with pytest.raises(OSError, match=r"cannot listen on 127.0.0.1:.* the address is in use"):
        await GrpcServer(parts.faces, settings).start()


async def test_metadata_below_the_soft_limit_passes_and_above_the_hard_one_fails(parts: Parts) -> None:
    rpc = "SystemService/GetInfo"
    assert (await parts.call(rpc, INFO, metadata=[("x-large", "x" * 7_000)])).title == "Test"
    problem = await problem_of(parts.call(rpc, INFO, metadata=[("x-large", "x" * 20_000)]))
    assert problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_may_be_as_large_as_the_limit() -> None:
    async with serving(RpcSettings(address="127.0.0.1:0", message_bytes_max=64 * 1024)) as parts:
        rpc = "SystemService/GetInfo"
        largest = b"\x0a\xfc\xff\x03" + b"x" * (64 * 1024 - 4)  # an unknown field, which is skipped
        assert (await parts.call(rpc, largest)).title == "Test"
        assert (await problem_of(parts.call(rpc, largest + b"\0"))).code is grpc.StatusCode.RESOURCE_EXHAUSTED
