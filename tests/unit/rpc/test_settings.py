from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from torana_server.core.errors import InvalidRequestError
from torana_server.rpc import RpcSettings
from torana_server.rpc.listening import check_address, is_local
from torana_server.rpc.settings import _BOUNDS

NUMBERS = [field.name for field in fields(RpcSettings) if field.type in ("int", "float")]


def test_every_number_is_bounded_and_its_default_within_the_bounds() -> None:
    assert set(NUMBERS) == set(_BOUNDS)
    RpcSettings()


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_bounds_is_named(name) -> None:
    low, high = _BOUNDS[name]
    for value in (low - 1, high + 1, float("nan")):
        number: dict[str, Any] = {name: value}
        with pytest.raises(InvalidRequestError) as refused:
            RpcSettings(**number)
        assert [violation.path for violation in refused.value.violations] == [name]


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        RpcSettings(streams_max=0, unary_timeout_s=0, tls_key=Path("k"), tls_client_ca=Path("c"))
    assert {violation.path for violation in refused.value.violations} == {
        "streams_max",
        "unary_timeout_s",
        "tls_cert",
        "tls_client_ca",
    }


def test_a_connection_that_is_wound_up_lets_its_streams_reach_their_own_age() -> None:
    settings = RpcSettings(stream_age_s_max=120)
    options = dict(settings.channel_options())
    assert options["grpc.max_connection_age_grace_ms"] > settings.stream_age_s_max * 1_000
    assert options["grpc.so_reuseport"] == 0


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:7233", True),
        ("127.9.9.9:0", True),
        ("[::1]:7233", True),
        ("localhost:7233", True),
        ("unix:/run/torana.sock", True),
        ("unix-abstract:torana", True),
        ("0.0.0.0:7233", False),
        ("[::]:7233", False),
        ("10.0.0.1:7233", False),
        ("torana.example.com:7233", False),
        ("localhost.example.com:7233", False),
        ("*:7233", False),
        (":7233", False),
    ],
)
def test_an_address_is_local_when_nothing_else_can_reach_it(address, local) -> None:
    assert is_local(address) is local
    settings = RpcSettings(address=address)
    if local:
        check_address(settings)
        return
    with pytest.raises(InvalidRequestError, match="allow_insecure"):
        check_address(settings)
    check_address(RpcSettings(address=address, allow_insecure=True))


@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "127.0.0.1:65536", "127.0.0.1", "localhost:http", "localhost:-1"]
)
def test_an_address_without_a_port_that_exists_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequestError, match="needs a port from 0"):
        check_address(RpcSettings(address=address))
