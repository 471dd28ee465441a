"""Addresses and TLS of the Python client."""

from __future__ import annotations

import pytest

from torana import TlsConfig
from torana._connection import endpoint, headers
from torana.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("address", "target", "is_tls"),
    [
        ("localhost:7233", "localhost:7233", False),
        ("localhost", "localhost:7233", False),
        ("http://localhost:8000", "localhost:8000", False),
        ("http://gateway.example.com", "gateway.example.com:7233", False),
        ("http://localhost:8000/", "localhost:8000", False),
        ("grpc://10.0.0.1:1", "10.0.0.1:1", False),
        ("https://gateway.example.com:443", "gateway.example.com:443", True),
        ("grpcs://gateway.example.com", "gateway.example.com:7233", True),
        ("[::1]", "[::1]:7233", False),
        ("http://[::1]:9", "[::1]:9", False),
        ("unix:/run/torana.sock", "unix:/run/torana.sock", False),
        ("dns:///torana.example.com:7233", "dns:///torana.example.com:7233", False),
    ],
)
def test_an_address_is_a_host_or_a_url(address: str, target: str, is_tls: bool) -> None:
    found = endpoint(address, None)
    assert (found.target, found.tls is not None) == (target, is_tls)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://localhost", "ftp:// is not known"),
        ("http://localhost/api/v1", "gRPC has no base path; write http://localhost"),
        ("http://user@host", "is not host:port"),
        ("::1", "in brackets"),
        ("", "is not host:port"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(address: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        endpoint(address, None)


def test_plain_text_and_tls_contradict_each_other() -> None:
    with pytest.raises(InvalidRequestError, match="http:// is plain text, but `tls` is given"):
        endpoint("http://localhost", TlsConfig())
    assert endpoint("localhost", TlsConfig(server_name="torana")).tls == TlsConfig(server_name="torana")


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(InvalidRequestError, match="`cert` and `key` belong together"):
        TlsConfig(cert=b"pem")


def test_the_server_name_and_the_limits_reach_the_channel() -> None:
    options = dict(endpoint("localhost", TlsConfig(server_name="torana")).options())
    assert options["grpc.ssl_target_name_override"] == "torana"
    assert (options["grpc.keepalive_time_ms"], options["grpc.keepalive_timeout_ms"]) == (30_000, 10_000)
    assert options["grpc.max_receive_message_length"] > 4 * 1024 * 1024


def test_header_names_are_lower_case() -> None:
    assert headers({"Authorization": "Bearer x"}) == headers([("authorization", "Bearer x")])
