"""The figures of the engine that concern SQLite and streaming, each with its bar."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from benchmarks import bare
from benchmarks.load import Load, drive
from benchmarks.processes import Served, served
from torana.v1 import execution_pb2, execution_service_pb2, payload_pb2
from torana.v1.execution_service_pb2_grpc import ExecutionServiceStub

COMMITS_PER_EXECUTION = 4
"""Accepted with the first start; each completion with the next start, or with the end."""
IDLE_WATCHERS = 500


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `bar` is what it must reach: at least, or at most, as `at_least` says."""

    figure: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar


async def throughput(seconds: float) -> AsyncIterator[Figure]:
    """Executions per second at 32 callers against the bare stream, in alternating runs."""
    with tempfile.TemporaryDirectory(prefix="torana-bench-") as folder:
        async with served("benchmarks.bare") as yardstick, served("benchmarks.gateway", folder) as torana:
            pairs = [
                (await _bare_load(yardstick, 32, seconds), await _torana_load(torana, 32, seconds)) for _ in range(3)
            ]
    yield Figure("bare_stream_32_callers", statistics.median(bare.per_s for bare, _ in pairs), "streams/s")
    yield Figure("executions_32_callers", statistics.median(ours.per_s for _, ours in pairs), "executions/s")
    ratio = statistics.median(ours.per_s / bare.per_s for bare, ours in pairs)
    yield Figure("executions_32_callers_against_bare", ratio, "ratio", 0.9)
    yield Figure("execution_p99_32_callers", statistics.median(ours.p99_ms for _, ours in pairs), "ms")
    yield Figure("failed_calls_32_callers", sum(ours.errors + bare.errors for bare, ours in pairs), "calls", 0, False)


async def latency(seconds: float) -> AsyncIterator[Figure]:
    """One caller: how long an execution takes beyond its commits, and how soon its first event arrives."""
    with tempfile.TemporaryDirectory(prefix="torana-bench-") as folder:
        fsync_ms = _fsync_ms(Path(folder) / "fsync")
        async with served("benchmarks.gateway", folder + "/data") as torana:
            load = await _torana_load(torana, 1, seconds)
    yield Figure("fsync_p50", fsync_ms, "ms")
    bar = COMMITS_PER_EXECUTION * fsync_ms + 2
    yield Figure("execution_p50_1_caller", load.p50_ms, "ms", bar, False)
    yield Figure("first_event_p50_1_caller", load.first_p50_ms, "ms", 1.5, False)


async def second_watcher(seconds: float) -> AsyncIterator[Figure]:
    """From an event's commit to a second watcher's callback, at 200 executions per second."""
    delays_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="torana-bench-") as folder:
        async with served("benchmarks.gateway", folder) as torana, _channel(torana) as channel:
            stub = ExecutionServiceStub(channel)
            watcher = asyncio.create_task(_watch_all(stub, delays_ms))
            await _paced(stub, rate=200, seconds=seconds)
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
    delays_ms.sort()
    yield Figure("commit_to_second_watcher_p50", statistics.median(delays_ms), "ms", 5, False)
    yield Figure("commit_to_second_watcher_p99", delays_ms[int(0.99 * len(delays_ms))], "ms", 25, False)


async def idle_watchers(seconds: float) -> AsyncIterator[Figure]:
    """Server memory for one idle watcher, above that of one idle stream of the bare server."""
    with tempfile.TemporaryDirectory(prefix="torana-bench-") as folder:
        async with served("benchmarks.bare") as yardstick, served("benchmarks.gateway", folder) as torana:
            bare_kib = await _idle_bare(yardstick)
            ours_kib = await _idle_torana(torana)
    yield Figure("bare_idle_stream_memory", bare_kib, "KiB")
    yield Figure("idle_watcher_memory", ours_kib, "KiB")
    yield Figure("idle_watcher_memory_above_bare", ours_kib - bare_kib, "KiB", 40, False)


FIGURES: dict[str, Callable[[float], AsyncIterator[Figure]]] = {
    "throughput": throughput,
    "latency": latency,
    "second-watcher": second_watcher,
    "idle-watchers": idle_watchers,
}


def _channel(server: Served) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")


async def _bare_load(server: Served, callers: int, seconds: float) -> Load:
    async with _channel(server) as channel:
        stream: Any = channel.unary_stream(
            bare.METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=bare.Event.FromString,
        )

        async def once() -> float:
            began, first = time.perf_counter(), 0.0
            count = 0
            async for _ in stream(bare.Event(data="x")):
                first = first or time.perf_counter() - began
                count += 1
            assert count == len(bare.KINDS), count
            return first

        return await drive(once, callers=callers, seconds=seconds)


async def _torana_load(server: Served, callers: int, seconds: float) -> Load:
    request = execution_service_pb2.ExecuteRequest(
        request=execution_pb2.WorkflowRequest(
            workflow="three_steps", parameters=payload_pb2.Payload(json='{"value": 1}')
        )
    )
    async with _channel(server) as channel:
        stub = ExecutionServiceStub(channel)

        async def once() -> float:
            began, first = time.perf_counter(), 0.0
            events = 0
            completed = False
            async for response in stub.Execute(request):
                frame = response.frame
                if frame.batch.events:
                    first = first or time.perf_counter() - began
                    events += len(frame.batch.events)
                    completed = frame.batch.events[-1].HasField("completed")
            assert completed, "the execution did not complete"
            assert events == len(bare.KINDS), events
            return first

        return await drive(once, callers=callers, seconds=seconds)


def _fsync_ms(path: Path) -> float:
    """The median time of an fdatasync after a write of one page, as a commit causes it."""
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(300):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


async def _watch_all(stub: Any, delays_ms: list[float]) -> None:
    async for response in stub.WatchExecutions(execution_service_pb2.WatchExecutionsRequest()):
        now = time.time()
        for event in response.events:
            delays_ms.append(1000 * (now - event.time.seconds - event.time.nanos / 1e9))


async def _paced(stub: Any, *, rate: float, seconds: float) -> None:
    request = execution_service_pb2.StartExecutionRequest(
        request=execution_pb2.WorkflowRequest(
            workflow="three_steps", parameters=payload_pb2.Payload(json='{"value": 1}')
        )
    )
    calls: list[Awaitable[Any]] = []
    began = time.perf_counter()
    for index in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + index / rate - time.perf_counter()))
        calls.append(stub.StartExecution(request))
    await asyncio.gather(*calls)


async def _idle_bare(server: Served) -> float:
    async with _channel(server) as channel:
        stream: Any = channel.unary_stream(
            bare.WAIT_METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=bare.Event.FromString,
        )
        return await _memory_per_stream(server, lambda: stream(bare.Event(data="x")))


async def _idle_torana(server: Served) -> float:
    async with _channel(server) as channel:
        stub = ExecutionServiceStub(channel)
        started = await stub.StartExecution(
            execution_service_pb2.StartExecutionRequest(request=execution_pb2.WorkflowRequest(workflow="waits"))
        )
        # From after the last event on, so that nothing but the opening comes.
        request = execution_service_pb2.WatchExecutionRequest(
            execution=started.execution.id, after_sequence=started.execution.latest_sequence
        )
        return await _memory_per_stream(server, lambda: stub.WatchExecution(request))


async def _memory_per_stream(server: Served, open_stream: Callable[[], Any]) -> float:
    """The growth of the server's resident memory per stream.

    A few streams first, so that what is loaded on first use does not count; they stay open, so that what they hold is
    not handed to the counted ones.
    """
    early = await _open(open_stream, 20)
    await asyncio.sleep(1)
    before = server.rss_kib()
    streams = await _open(open_stream, IDLE_WATCHERS)
    await asyncio.sleep(1)
    after = server.rss_kib()
    for stream in [*early, *streams]:
        stream.cancel()
    return (after - before) / IDLE_WATCHERS


async def _open(open_stream: Callable[[], Any], count: int) -> list[Any]:
    streams = [open_stream() for _ in range(count)]
    for stream in streams:
        await stream.read()
    return streams
