"""What is the same for every call: its id, its errors, its end, its line in the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.rpc.parts import FixedSystem, Parts, pb, raw, serving
from integration.rpc.problems import problem_of
from torana.v1 import execution_pb2, system_service_pb2
from torana_server.access import LOCAL, Principal
from torana_server.core.errors import Reason, ToranaError
from torana_server.rpc import GrpcServer, RpcSettings

INFO = system_service_pb2.GetInfoRequest()


def lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.name == "torana.rpc" and record.message.startswith("call ")]


async def trailers_of(call: Any) -> dict[str, Any]:
    return dict(await call.trailing_metadata())


async def test_the_callers_id_of_a_call_comes_back(parts: Parts) -> None:
    call = parts.start("SystemService/GetInfo", INFO, metadata=[("x-request-id", "order-7:a.b/c")])
    await call
    assert (await trailers_of(call))["x-request-id"] == "order-7:a.b/c"


@pytest.mark.parametrize("unfit", ["", "two words", "x" * 129, "semi;colon"])
async def test_an_id_that_is_unfit_for_a_log_line_is_replaced(parts: Parts, unfit) -> None:
    calls = [parts.start("SystemService/GetInfo", INFO, metadata=[("x-request-id", unfit)]) for _ in range(2)]
    await asyncio.gather(*calls)
    ids = {(await trailers_of(call))["x-request-id"] for call in calls}
    assert len(ids) == 2
    assert unfit not in ids


async def test_health_and_streams_carry_the_id_too(parts: Parts) -> None:
    health = health_pb2_grpc.HealthStub(parts.channel).Check(
        health_pb2.HealthCheckRequest(), metadata=[("x-request-id", "h")]
    )
    await health
    assert (await trailers_of(health))["x-request-id"] == "h"
    wanted = pb.ExecuteRequest(request={"workflow": "fails"})
    stream = parts.stream("ExecutionService/Execute", wanted, metadata=[("x-request-id", "s")])
    assert [m async for m in stream]
    assert (await trailers_of(stream))["x-request-id"] == "s"


async def test_a_defect_shows_nothing_of_itself_and_can_be_found_in_the_log(parts: Parts, monkeypatch, caplog) -> None:
    def info(self: FixedSystem) -> Any:
        raise ValueError("dsn=postgres://user:hunter2@db")

    monkeypatch.setattr(FixedSystem, "info", info)
    problem = await problem_of(parts.call("SystemService/GetInfo", INFO, metadata=[("x-request-id", "find-me")]))
    assert (problem.code, problem.reason, problem.request_id) == (grpc.StatusCode.INTERNAL, "INTERNAL", "find-me")
    assert problem.message == "internal error; the request id of this answer finds it in the server's log"
    assert "hunter2" not in str(problem)
    (logged,) = [record for record in caplog.records if record.exc_text]
    assert logged.request_id == "find-me"
    assert "ValueError" in logged.exc_text


async def test_a_call_that_finds_no_answer_in_time_is_of_unknown_outcome(monkeypatch) -> None:
    async with serving(RpcSettings(address="127.0.0.1:0", unary_timeout_s=1)) as parts:

        async def health(self: FixedSystem) -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(FixedSystem, "health", health)
        problem = await problem_of(parts.call("SystemService/GetHealth", system_service_pb2.GetHealthRequest()))
        assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
        assert problem.retry_after_s


async def test_a_handlers_own_timeout_is_a_defect_and_not_a_deadline(parts: Parts, monkeypatch) -> None:
    def info(self: FixedSystem) -> Any:
        raise TimeoutError

    monkeypatch.setattr(FixedSystem, "info", info)
    assert (await problem_of(parts.call("SystemService/GetInfo", INFO))).reason == "INTERNAL"


async def test_a_caller_that_leaves_cancels_its_call_in_its_own_task(parts: Parts, monkeypatch) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def health(self: FixedSystem) -> Any:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    monkeypatch.setattr(FixedSystem, "health", health)
    call = parts.start("SystemService/GetHealth", system_service_pb2.GetHealthRequest())
    await waiting.wait()
    call.cancel()
    await ended.wait()
    await parts.server.drain()
    assert parts.server.stats()["rpc_failed.SystemService.GetHealth"] == 1
    assert parts.server.stats()["rpc_open"] == 0


async def test_an_execution_whose_caller_leaves_while_it_becomes_durable_runs_all_the_same(parts, monkeypatch) -> None:
    create, creating, may_create = parts.journal.create, asyncio.Event(), asyncio.Event()
    start, left = parts.engine.start, asyncio.Event()

    async def slow(*args: Any) -> Any:
        creating.set()
        await may_create.wait()
        return await create(*args)

    async def observed(*args: Any) -> Any:
        try:
            return await start(*args)
        except asyncio.CancelledError:
            left.set()
            raise

    monkeypatch.setattr(parts.journal, "create", slow)
    monkeypatch.setattr(parts.engine, "start", observed)
    everything = parts.stream("ExecutionService/WatchExecutions", pb.WatchExecutionsRequest(kinds=[27]))
    await everything.read()
    call = parts.start("ExecutionService/StartExecution", pb.StartExecutionRequest(request={"workflow": "fails"}))
    await creating.wait()
    call.cancel()
    await left.wait()
    may_create.set()
    (failed,) = (await everything.read()).events
    everything.cancel()
    request = pb.GetExecutionRequest(execution=failed.execution)
    found = await parts.call("ExecutionService/GetExecution", request)
    assert found.execution.state == execution_pb2.EXECUTION_STATE_FAILED


async def test_a_method_that_does_not_exist_is_unimplemented(parts: Parts) -> None:
    call = raw(parts.channel.unary_unary("/torana.v1.ExecutionService/Nothing"), b"")
    problem = await problem_of(call)
    assert problem.code is grpc.StatusCode.UNIMPLEMENTED


async def test_every_call_leaves_one_line_with_who_what_and_how_it_went(parts: Parts, caplog) -> None:
    caplog.set_level(logging.INFO, "torana.rpc")
    await parts.run("fails")
    await problem_of(
        parts.call("ExecutionService/GetExecution", pb.GetExecutionRequest(), metadata=[("x-request-id", "r")])
    )
    await parts.server.drain()
    executed, refused = lines(caplog)
    assert (executed.rpc, executed.code, executed.tenant) == ("/torana.v1.ExecutionService/Execute", "OK", "local")
    assert executed.duration_ms >= 0
    assert (refused.code, refused.reason, refused.request_id) == ("INVALID_ARGUMENT", "INVALID_REQUEST", "r")
    assert refused.peer.startswith("ipv4:127.0.0.1")


async def test_only_failed_calls_are_logged_without_the_access_log(caplog) -> None:
    caplog.set_level(logging.INFO, "torana.rpc")
    async with serving(RpcSettings(address="127.0.0.1:0", access_log=False)) as parts:
        await parts.call("SystemService/GetInfo", INFO)
        await problem_of(parts.call("ExecutionService/GetExecution", pb.GetExecutionRequest()))
    assert [line.rpc for line in lines(caplog)] == ["/torana.v1.ExecutionService/GetExecution"]


class ByToken:
    """An authenticator of one tenant per token."""

    async def authenticate(self, method: str, metadata: Any, peer: str) -> Principal:
        token = dict(metadata).get("authorization")
        if token is None:
            raise ToranaError("send a token in `authorization`", reason=Reason.UNAUTHENTICATED)
        return Principal(tenant=token, subject="tester")


async def test_who_calls_is_asked_of_the_authenticator_and_tenants_are_apart(parts: Parts) -> None:
    execution = (await parts.run("fails"))[0].opened.execution
    server = GrpcServer(parts.faces, RpcSettings(address="127.0.0.1:0"), ByToken())
    host, port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
            guarded = parts.through(channel)
            request = pb.GetExecutionRequest(execution=execution)
            rpc = "ExecutionService/GetExecution"
            problem = await problem_of(guarded.call(rpc, request))
            assert (problem.code, problem.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
            problem = await problem_of(guarded.call(rpc, request, metadata=[("authorization", "other")]))
            assert problem.reason == "EXECUTION_NOT_FOUND"
            watch = pb.WatchExecutionRequest(execution=execution)
            stream = guarded.stream("ExecutionService/WatchExecution", watch, metadata=[("authorization", "other")])
            assert (await problem_of(stream)).reason == "EXECUTION_NOT_FOUND"
            found = await guarded.call(rpc, request, metadata=[("authorization", LOCAL.tenant)])
            assert found.execution.id == execution
    finally:
        await server.stop(0)
