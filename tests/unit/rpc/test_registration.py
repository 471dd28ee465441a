from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import torana.v1
from torana.v1.system_service_pb2 import GetInfoResponse
from torana_server.rpc import servicers
from torana_server.rpc.registration import SERVICES, handlers_of, serialised

CONTRACT = Path(torana.v1.__file__).parent


def test_every_service_of_the_contract_is_offered() -> None:
    in_contract = {path.name.removesuffix("_service_pb2.py") for path in CONTRACT.glob("*_service_pb2.py")}
    assert {name.removesuffix("Service").lower() for name in SERVICES} == in_contract


@pytest.mark.parametrize("service", SERVICES)
def test_every_rpc_has_a_method_of_its_kind(service) -> None:
    servicer = getattr(servicers, service.removesuffix("Service") + "Servicer")
    for rpc in SERVICES[service].methods:
        method = getattr(servicer, rpc.name)
        streams = inspect.signature(method).return_annotation in ("None", "AsyncGenerator[bytes, None]")
        assert streams is rpc.server_streaming
        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


@pytest.mark.parametrize("service", SERVICES)
def test_no_servicer_offers_what_the_contract_does_not_name(service) -> None:
    servicer = getattr(servicers, service.removesuffix("Service") + "Servicer")
    public = {name for name in vars(servicer) if not name.startswith("_")}
    assert public == {rpc.name for rpc in SERVICES[service].methods}


def test_a_servicer_without_a_method_for_an_rpc_cannot_be_offered() -> None:
    with pytest.raises(AttributeError, match="GetInfo"):
        handlers_of(SERVICES["SystemService"], object())


def test_what_is_bytes_already_stays_as_it_is() -> None:
    frame = b"frame"
    assert serialised(frame) is frame
    assert GetInfoResponse.FromString(serialised(GetInfoResponse(title="x"))).title == "x"
