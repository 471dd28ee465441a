"""Pieces of work run by both clients, and the frames that scripts are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

import torana
from torana.v1 import event_pb2, payload_pb2, stream_pb2
from unit.client.scripted_server import Abort, ScriptedServer, scripted_server

EAGER = torana.ReconnectPolicy(initial_s=0.0, max_s=0.0)
"""Reconnects without a pause."""
UNAVAILABLE = Abort(grpc.StatusCode.UNAVAILABLE)
END = stream_pb2.StreamEnd


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as scripted:
        yield scripted


class AsyncRun:
    """Runs one piece of client work in asyncio."""

    async def events(self, server: ScriptedServer, open_stream: Callable[[Any], Any], **options: Any) -> list[Any]:
        async with self.client(server, **options) as client, open_stream(client) as stream:
            return [event async for event in stream]

    async def call(self, server: ScriptedServer, work: Callable[[Any], Any], **options: Any) -> Any:
        async with self.client(server, **options) as client:
            found = work(client)
            return [item async for item in found] if hasattr(found, "__aiter__") else await found

    async def result(self, server: ScriptedServer, open_stream: Callable[[Any], Any], **options: Any) -> Any:
        async with self.client(server, **options) as client, open_stream(client) as stream:
            return await stream.result()

    async def first(self, server: ScriptedServer, open_stream: Callable[[Any], Any], count: int) -> Any:
        """A stream after it delivered `count` events and was left."""
        async with self.client(server) as client, open_stream(client) as stream:
            for _ in range(count):
                await anext(stream)
            return stream

    def client(self, server: ScriptedServer, **options: Any) -> torana.Client:
        return torana.Client(server.address, **{"reconnect": EAGER, **options})


class BlockingRun:
    """Runs the same work with the blocking client, in a thread."""

    async def events(self, server: ScriptedServer, open_stream: Callable[[Any], Any], **options: Any) -> list[Any]:
        def work(client: torana.BlockingClient) -> list[Any]:
            with open_stream(client) as stream:
                return list(stream)

        return await self.call(server, work, **options)  # type: ignore[no-any-return]

    async def call(self, server: ScriptedServer, work: Callable[[Any], Any], **options: Any) -> Any:
        def in_thread() -> Any:
            with self.client(server, **options) as client:
                found = work(client)
                return list(found) if hasattr(found, "__next__") else found

        return await asyncio.to_thread(in_thread)

    async def result(self, server: ScriptedServer, open_stream: Callable[[Any], Any], **options: Any) -> Any:
        def work(client: torana.BlockingClient) -> Any:
            with open_stream(client) as stream:
                return stream.result()

        return await self.call(server, work, **options)

    async def first(self, server: ScriptedServer, open_stream: Callable[[Any], Any], count: int) -> Any:
        def work() -> Any:
            with self.client(server) as client, open_stream(client) as stream:
                for _ in range(count):
                    next(stream)
                return stream

        return await asyncio.to_thread(work)

    def client(self, server: ScriptedServer, **options: Any) -> torana.BlockingClient:
        return torana.BlockingClient(server.address, **{"reconnect": EAGER, **options})


Run = AsyncRun | BlockingRun


@pytest.fixture(params=[AsyncRun, BlockingRun], ids=["asyncio", "blocking"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param()  # type: ignore[no-any-return]


def opened(heartbeat_s: float = 15.0) -> stream_pb2.StreamFrame:
    frame = stream_pb2.StreamFrame(opened=stream_pb2.StreamOpened(execution="e-1"))
    frame.opened.heartbeat_interval.FromMilliseconds(int(heartbeat_s * 1000))
    return frame


def event(sequence: int, **kind: Any) -> event_pb2.ExecutionEvent:
    kind = kind or {"step_progress": event_pb2.StepProgress(fraction=sequence / 100)}
    return event_pb2.ExecutionEvent(execution="e-1", sequence=sequence, step="load", **kind)


def batch(*events: event_pb2.ExecutionEvent, after: int | None = None, through: int = 0) -> stream_pb2.StreamFrame:
    found = stream_pb2.EventBatch(events=events, through_sequence=through or events[-1].sequence)
    found.after_sequence = events[0].sequence - 1 if after is None else after
    return stream_pb2.StreamFrame(batch=found)


def output(sequence: int, json: str, **types: str) -> event_pb2.ExecutionEvent:
    payload = payload_pb2.Payload(json=json, types={f"/{key}": kind for key, kind in types.items()})
    return event(sequence, step_completed=event_pb2.StepCompleted(output=payload))


def completed(sequence: int, **outputs: int) -> event_pb2.ExecutionEvent:
    return event(sequence, completed=event_pb2.ExecutionCompleted(outputs=outputs))


def end(reason: END.Reason.ValueType = END.REASON_EXECUTION_FINISHED, *, through: int = 0, **rest: Any) -> Any:
    return stream_pb2.StreamFrame(end=END(reason=reason, through_sequence=through, **rest))


def execute(client: Any) -> Any:
    return client.execute("etl")


def sequences(events: list[torana.Event]) -> list[int]:
    return [event.sequence for event in events]


WHOLE = [opened(), batch(event(1), event(2)), batch(completed(3)), end(through=3)]
