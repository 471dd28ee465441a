"""The yardstick: a bare grpc.aio server that streams nine small messages per call from memory, with no engine.

`python -m benchmarks.bare` prints its port on standard output and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/bench.Bench/Stream"
WAIT_METHOD = "/bench.Bench/Wait"
KINDS = ("accepted", "started", *("step started", "step completed") * 3, "completed")

_FIELD = descriptor_pb2.FieldDescriptorProto


def _message_class() -> Any:
    """Event {int64 sequence; string kind; string step; string data}: the size and shape of an ordinary event."""
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Event")
    fields = (
        ("sequence", _FIELD.TYPE_INT64),
        ("kind", _FIELD.TYPE_STRING),
        ("step", _FIELD.TYPE_STRING),
        ("data", _FIELD.TYPE_STRING),
    )
    for number, (name, kind) in enumerate(fields, 1):
        message.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Event"))


Event = _message_class()


async def _stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
    for sequence, kind in enumerate(KINDS):
        yield Event(sequence=sequence, kind=kind, step="s", data='{"value": 1}')


async def _wait(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
    """An idle stream: one message, then nothing."""
    yield Event(sequence=1, kind="opened")
    await asyncio.Event().wait()


async def serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {
        name: grpc.unary_stream_rpc_method_handler(
            behavior,
            request_deserializer=Event.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, behavior in (("Stream", _stream), ("Wait", _wait))
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bench", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve())
