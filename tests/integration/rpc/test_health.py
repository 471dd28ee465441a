from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.rpc.parts import Parts, raw
from integration.rpc.problems import problem_of
from torana_server.rpc.registration import SERVICES

Status = health_pb2.HealthCheckResponse


@pytest.mark.parametrize("service", ["", "grpc.health.v1.Health", *(s.full_name for s in SERVICES.values())])
async def test_the_server_and_each_service_are_serving_until_they_are_told_not_to(parts: Parts, service) -> None:
    health = health_pb2_grpc.HealthStub(parts.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=service))
    assert (await watch.read()).status == Status.SERVING
    assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == Status.SERVING
    parts.server.refuse()
    assert (await watch.read()).status == Status.NOT_SERVING
    assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == Status.NOT_SERVING
    watch.cancel()


async def test_an_unknown_service_is_not_found(parts: Parts) -> None:
    call = health_pb2_grpc.HealthStub(parts.channel).Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert (await problem_of(call)).code is grpc.StatusCode.NOT_FOUND


async def test_what_is_no_health_request_is_an_invalid_argument(parts: Parts) -> None:
    call = raw(parts.channel.unary_unary("/grpc.health.v1.Health/Check"), b"\xff")
    assert (await problem_of(call)).reason == "INVALID_REQUEST"


async def test_draining_does_not_wait_for_those_who_watch_the_health(parts: Parts) -> None:
    watch = health_pb2_grpc.HealthStub(parts.channel).Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    await parts.server.drain()
    assert (await watch.read()).status == Status.NOT_SERVING
    watch.cancel()
