"""What grpcurl does: list, describe, call, all from what the server tells about itself."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2 as pb

from integration.rpc.parts import Parts, raw, serving
from integration.rpc.problems import problem_of
from torana_server.rpc import RpcSettings
from torana_server.rpc.registration import SERVICES

VERSIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Reflected:
    """A client that knows nothing of the contract."""

    def __init__(self, channel: grpc.aio.Channel, version: str) -> None:
        self._ask = channel.stream_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
        self._channel = channel
        self.pool = DescriptorPool()

    async def ask(self, **question: Any) -> pb.ServerReflectionResponse:
        async for answer in self._ask(iter([pb.ServerReflectionRequest(**question)])):
            return answer
        raise AssertionError("no answer")

    async def services(self) -> list[str]:
        return [one.name for one in (await self.ask(list_services="")).list_services_response.service]

    async def describe(self, symbol: str) -> Any:
        answer = await self.ask(file_containing_symbol=symbol)
        assert not answer.HasField("error_response"), f"{symbol} is not described"
        waiting = [FileDescriptorProto.FromString(f) for f in answer.file_descriptor_response.file_descriptor_proto]
        known: set[str] = set()
        while waiting:
            file = next(f for f in waiting if known.issuperset(f.dependency))
            waiting.remove(file)
            known.add(file.name)
            self.pool.Add(file)
        return self.pool.FindServiceByName(symbol)

    async def call(self, service: Any, method: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        rpc = service.FindMethodByName(method)
        request_class, response_class = GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type)
        kind = self._channel.unary_stream if rpc.server_streaming else self._channel.unary_unary
        call: Any = kind(
            f"/{service.full_name}/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )(json_format.ParseDict(request, request_class(), descriptor_pool=self.pool))
        messages = [message async for message in call] if rpc.server_streaming else [await call]
        return [json_format.MessageToDict(message, descriptor_pool=self.pool) for message in messages]


@pytest.fixture(params=VERSIONS)
def reflected(request: pytest.FixtureRequest, parts: Parts) -> Reflected:
    return Reflected(parts.channel, request.param)


async def test_every_service_is_listed(reflected: Reflected) -> None:
    contract = {service.full_name for service in SERVICES.values()}
    assert set(await reflected.services()) == contract | {"grpc.health.v1.Health", *VERSIONS}


async def test_every_listed_service_can_be_described(parts: Parts, reflected: Reflected) -> None:
    for name in await reflected.services():
        fresh = Reflected(parts.channel, VERSIONS[0])
        assert (await fresh.describe(name)).full_name == name


async def test_a_workflow_runs_by_what_the_server_tells_about_itself(reflected: Reflected) -> None:
    service = await reflected.describe("torana.v1.ExecutionService")
    request = {"request": {"workflow": "adds", "parameters": {"value": {"number": 20}}}}
    frames = [message["frame"] for message in await reflected.call(service, "Execute", request)]
    outputs = [
        event["stepCompleted"]["output"]["json"]
        for frame in frames
        for event in frame.get("batch", {}).get("events", [])
        if "stepCompleted" in event
    ]
    assert outputs == ['{"n":40}', '{"n":41}']
    assert frames[-1]["end"]["reason"] == "REASON_EXECUTION_FINISHED"


async def test_v1_describes_itself_as_v1(reflected: Reflected) -> None:
    service = await reflected.describe(VERSIONS[0])
    method = service.FindMethodByName("ServerReflectionInfo")
    assert method.input_type.full_name == "grpc.reflection.v1.ServerReflectionRequest"
    assert method.output_type.fields_by_name["list_services_response"].message_type.full_name == (
        "grpc.reflection.v1.ListServiceResponse"
    )
    by_name = await reflected.ask(file_by_filename="grpc/reflection/v1/reflection.proto")
    assert by_name.HasField("file_descriptor_response")


async def test_an_unknown_symbol_is_an_answer(reflected: Reflected) -> None:
    answer = await reflected.ask(file_containing_symbol="torana.v1.Nothing")
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_no_reflection_request_is_an_invalid_argument(parts: Parts, version) -> None:
    call = raw(parts.channel.stream_stream(f"/{version}/ServerReflectionInfo"), iter([b"\xff"]))
    assert (await problem_of(call)).reason == "INVALID_REQUEST"


@pytest.mark.parametrize("version", VERSIONS)
async def test_reflection_can_be_turned_off(version) -> None:
    async with serving(RpcSettings(address="127.0.0.1:0", reflection=False)) as parts:
        call = raw(parts.channel.stream_stream(f"/{version}/ServerReflectionInfo"), iter([b""]))
        assert (await problem_of(call)).code is grpc.StatusCode.UNIMPLEMENTED
