"""A whole server over memory, with the gRPC face in front and a channel to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from torana.v1 import execution_service_pb2
from torana_server.adapters.memory.journal import MemoryJournal
from torana_server.adapters.wire import WireCodec
from torana_server.core.clock import Micros, SystemClock
from torana_server.execution import AdmissionLimits, Engine, Services
from torana_server.resources import ResourceRegistry, Resources, ResourceSettings, ResourceTypes
from torana_server.rpc import (
    ComponentHealth,
    Faces,
    GrpcServer,
    HealthStatus,
    RpcSettings,
    ServerHealth,
    ServerInfo,
    ServerStats,
)
from torana_server.rpc.registration import SERVICES
from torana_server.steps import FunctionRegistry, InProcessRunner, StepThreads, StepTypes, built_in_types
from torana_server.vault import SecretManager
from torana_server.workflow import WorkflowBuilder, WorkflowRegistry

pb: Any = execution_service_pb2  # its messages take dicts for messages, which the stubs do not say
START = Micros(1_700_000_000_000_000)


class FixedSystem:
    """What the composition root would say about the server."""

    def info(self) -> ServerInfo:
        return ServerInfo(
            version="0.1.0",
            title="Test",
            description="",
            server_id="server-1",
            start_time=START,
            journal="memory",
            durable=False,
            limits={"page_size": 1_000},
            features=("execute",),
        )

    async def health(self) -> ServerHealth:
        journal = ComponentHealth(name="journal", status=HealthStatus.HEALTHY, latency_s=0.001, since=START)
        return ServerHealth(status=HealthStatus.HEALTHY, components=[journal], draining=False)

    async def stats(self) -> ServerStats:
        return ServerStats(values={"executions_driven": 0}, since=START)


@dataclass(slots=True)
class Gates:
    """Steps of the workflow `waits` wait for `open`."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Parts:
    """`journal` and `engine` are those behind `server`; `channel` leads to it."""

    server: GrpcServer
    faces: Faces
    engine: Engine
    journal: MemoryJournal
    registry: ResourceRegistry
    gates: Gates
    channel: grpc.aio.Channel

    def stream(self, method: str, request: Any, **options: Any) -> Any:
        """`method` such as "ExecutionService/Execute"; `request` a message or bytes."""
        return self._call(self.channel.unary_stream, method)(request, **options)

    async def call(self, method: str, request: Any, **options: Any) -> Any:
        """As `stream`, for a method with one answer."""
        return await self.start(method, request, timeout=20, **options)

    def start(self, method: str, request: Any, **options: Any) -> Any:
        """As `call`, but gives the call itself."""
        return self._call(self.channel.unary_unary, method)(request, **options)

    def through(self, channel: grpc.aio.Channel) -> Parts:
        return replace(self, channel=channel)

    def _call(self, kind: Any, method: str) -> Any:
        service, _, name = method.partition("/")
        rpc = SERVICES[service].methods_by_name[name]
        response: Any = GetMessageClass(rpc.output_type)
        return kind(
            f"/torana.v1.{method}",
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
            response_deserializer=response.FromString,
        )

    async def run(self, workflow: str, **request: Any) -> list[Any]:
        """The frames of an execution, to its end."""
        wanted = pb.ExecuteRequest(request={"workflow": workflow, **request})
        return [response.frame async for response in self.stream("ExecutionService/Execute", wanted)]


def _workflows(types: StepTypes, functions: FunctionRegistry, gates: Gates) -> WorkflowRegistry:
    async def wait() -> str:
        gates.running.set()
        await gates.open.wait()
        return "went on"

    functions.register("wait", wait, "1")
    workflows = WorkflowRegistry(types)
    adds = (
        WorkflowBuilder("adds")
        .add_async_code("double", "return {'n': number * 2}")
        .add_async_code("add_one", "return {'n': n + 1}")
        .add_connection("double", "n", "add_one", "n")
        .build()
    )
    repeats = WorkflowBuilder("repeats").add_async_code("repeat", "return 'x' * times").build()
    workflows.register(repeats)
    workflows.register(adds, description="Doubles and adds one.", metadata={"owner": "tests"})
    workflows.register(WorkflowBuilder("fails").add_async_code("boom", "raise ValueError('no')").build())
    workflows.register(WorkflowBuilder("waits").add_node("function", "wait", {"function": "wait"}).build())
    then = WorkflowBuilder("waits_then_ends").add_node("function", "wait", {"function": "wait"})
    workflows.register(then.add_async_code("end", "return 1").build())
    needs = WorkflowBuilder("needs_db").add_async_code("use", "return 1", required_resources=["db"]).build()
    workflows.register(needs, required_resources=["db"])
    return workflows


@asynccontextmanager
async def serving(
    settings: RpcSettings | None = None, *, queued: int = 100, running: int = 100
) -> AsyncIterator[Parts]:
    """Stopped at the end, whatever the test did."""
    gates, clock, functions, registry = Gates(), SystemClock(), FunctionRegistry(), ResourceRegistry()
    threads = StepThreads(2)
    types = StepTypes()
    for step_type in built_in_types(functions, threads):
        types.register(step_type)
    workflows = _workflows(types, functions, gates)
    secrets = SecretManager()
    resources = Resources(
        registry,
        ResourceTypes.standard(),
        secrets,
        clock=clock,
        settings=ResourceSettings(),
        redact=secrets.redactor.redact,
    )
    journal = MemoryJournal()
    services = Services(
        journal=journal,
        codec=WireCodec(),
        clock=clock,
        runner=InProcessRunner(types, resources, cancel_grace_s=0.1),
        redact=secrets.redactor.redact,
        draw=random.Random(1).random,
        server_id="server-1",
        env={},
        cancel_grace_s=0.1,
    )
    limits = AdmissionLimits(running=running, running_per_tenant=running, running_per_workflow=running, queued=queued)
    engine = Engine(services, workflows, resources, offers=types.capabilities, limits=limits, on_fatal=_never)
    await engine.open()
    faces = Faces(
        engine=engine,
        workflows=workflows,
        step_types=types,
        resources=resources,
        resource_types=resources.types,
        secrets=secrets,
        system=FixedSystem(),
        clock=clock,
    )
    server = GrpcServer(faces, settings or RpcSettings(address="127.0.0.1:0"))
    await server.start()
    target = f"127.0.0.1:{server.port}"  # of no use for a Unix socket, whose test makes a channel of its own
    channel = grpc.aio.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])
    try:
        yield Parts(server, faces, engine, journal, registry, gates, channel)
    finally:
        gates.open.set()
        await channel.close()
        await engine.drain(1.0)
        await server.drain()
        await server.stop(0)
        await resources.close()
        await engine.close()
        await secrets.close()
        threads.close()


def raw(multicallable: Any, request: Any) -> Any:
    """A call without serialisers, which the stubs cannot type."""
    return multicallable(request)


def _never(error: Exception) -> None:
    raise AssertionError(f"the journal failed: {error}")
