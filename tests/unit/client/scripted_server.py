"""A server that answers by a script, over real gRPC on the loopback, behind a proxy whose connections can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc.aio
from google.protobuf import message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from torana.v1 import (
    execution_service_pb2,
    resource_service_pb2,
    secret_service_pb2,
    stream_pb2,
    system_service_pb2,
    workflow_service_pb2,
)

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in (
        execution_service_pb2,
        resource_service_pb2,
        secret_service_pb2,
        system_service_pb2,
        workflow_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Every RPC of the contract by its path."""


@dataclass(frozen=True)
class Abort:
    """End the call with an error and its details."""

    code: grpc.StatusCode
    reason: str = ""
    details: Sequence[Message] = ()
    message: str = "as scripted"

    def status(self) -> status_pb2.Status:
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        if self.reason:
            status.details.add().Pack(error_details_pb2.ErrorInfo(domain="torana", reason=self.reason))
        for detail in self.details:
            status.details.add().Pack(detail)
        return status


class Stall:
    """Say nothing more until the client goes away."""


class Cut:
    """Reset the TCP connection."""


Action = Message | Abort | Stall | Cut
Script = Sequence[Action] | Callable[[int], Sequence[Action]]
"""What one stream does; a function is given the request's `after_sequence`."""


class ScriptedServer:
    """Each stream opened plays the next script of `streams`; each other call gives the next answer of its method."""

    def __init__(self) -> None:
        self.streams: list[Script] = []
        self.answers: dict[str, list[Message | Abort]] = {}
        self.requests: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        """Set when a client left a stream that was still open."""
        self.address = ""
        self._connections: set[asyncio.StreamWriter] = set()
        self._forwards: set[asyncio.Task[Any]] = set()

    @property
    def opened(self) -> list[tuple[str, Any]]:
        """Requests for streams, as (name of the RPC, request)."""
        return [(name, request) for name, request in self.requests if name in STREAMS]

    def cut(self) -> None:
        for connection in list(self._connections):
            connection.transport.abort()

    async def play(self, name: str, request: Any, context: Any) -> AsyncIterator[Message]:
        self._note(name, request, context)
        if not self.streams:
            await _abort(context, Abort(grpc.StatusCode.FAILED_PRECONDITION, message="the script is over"))
        script = self.streams.pop(0)
        for action in script(request.after_sequence) if callable(script) else script:
            match action:
                case Abort():
                    await _abort(context, action)
                case Stall():
                    await self._until_left()
                case Cut():
                    self.cut()
                    await self._until_left()
                case _:
                    yield _wrapped(name, action)

    async def answer(self, name: str, request: Message, context: Any) -> Message:
        self._note(name, request, context)
        answer = self.answers[name].pop(0)
        if isinstance(answer, Abort):
            await _abort(context, answer)
        assert not isinstance(answer, Abort)
        return answer

    def _note(self, name: str, request: Message, context: Any) -> None:
        self.requests.append((name, request))
        self.metadata.append(dict(context.invocation_metadata()))

    async def _until_left(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()

    async def forward(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        self._connections |= {writer, upstream_writer}
        await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))
        self._connections -= {writer, upstream_writer}

    async def accept(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self.forward(port, reader, writer))
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    async def hang_up(self) -> None:
        self.cut()
        await asyncio.gather(*self._forwards)


STREAMS = {"Execute": "ExecuteResponse", "WatchExecution": "WatchExecutionResponse", "WatchExecutions": ""}


def _wrapped(name: str, message: Message) -> Message:
    if isinstance(message, stream_pb2.StreamFrame):
        return getattr(execution_service_pb2, STREAMS[name])(frame=message)  # type: ignore[no-any-return]
    return message


async def _abort(context: Any, abort: Abort) -> None:
    details = (("grpc-status-details-bin", abort.status().SerializeToString()),) if abort.reason else ()
    await context.abort(abort.code, abort.message, details)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while received := await reader.read(65536):
            writer.write(received)
            await writer.drain()
    except ConnectionError:
        pass  # a cut; the other direction ends the same way
    finally:
        writer.close()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        method = METHODS[details.method]
        server, name = self._server, method.name
        codec: dict[str, Any] = {
            "request_deserializer": message_factory.GetMessageClass(method.input_type).FromString,
            "response_serializer": message_factory.GetMessageClass(method.output_type).SerializeToString,
        }
        if not method.server_streaming:
            return grpc.unary_unary_rpc_method_handler(partial(server.answer, name), **codec)
        return grpc.unary_stream_rpc_method_handler(partial(server.play, name), **codec)


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Handlers(scripted),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    proxy = await asyncio.start_server(partial(scripted.accept, port), "127.0.0.1", 0)
    scripted.address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    try:
        yield scripted
    finally:
        proxy.close()
        await scripted.hang_up()
        await server.stop(None)
