"""The streaming contract between processes: a server, a client, and a network that cuts them apart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import stores
import torana
from integration.proxy import Proxy, proxy_to
from servers import Gates, ServerProcess, gates, running_server
from torana.v1 import execution_service_pb2, execution_service_pb2_grpc, stream_pb2

END = stream_pb2.StreamEnd
pb: Any = execution_service_pb2  # its messages take dicts for messages, which the stubs do not say
HASTY = torana.ReconnectPolicy(initial_s=0.01, max_s=0.05)
CUTS = 50
WORDS = 4_000
HEARTBEAT_S = 1.0


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("streams") / "data"
    with running_server("served.streaming", folder, **stores.settings(request)) as server:
        yield server


on_both_stores = pytest.mark.parametrize("server", stores.STORES, indirect=True)


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[torana.Client]:
    async with torana.Client(server.address) as client:
        yield client


@pytest.fixture
async def doors() -> AsyncIterator[Gates]:
    async with gates() as opened:
        yield opened


@pytest.fixture
def random_numbers() -> random.Random:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def told(events: list[torana.Event]) -> list[bytes]:
    return [event.proto.SerializeToString(deterministic=True) for event in events]


def assert_whole(events: list[torana.Event]) -> None:
    """Every event once, in order, and one terminal event, which is the last."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.sequence for event in events if event.is_terminal] == [len(events)]


async def read(stream: torana.ExecutionStream) -> list[torana.Event]:
    async with stream:
        return [event async for event in stream]


async def journal_of(client: torana.Client, execution: str) -> list[torana.Event]:
    """What an undisturbed watch sees."""
    return await read(client.watch(execution))


async def cut_async(proxy: Proxy) -> list[torana.Event]:
    async with torana.Client(proxy.address, reconnect=HASTY) as client:
        return await read(client.execute("talks", {"count": WORDS, "size": 40, "pause_ms": 10}))


async def cut_blocking(proxy: Proxy) -> list[torana.Event]:
    def follow() -> list[torana.Event]:
        with torana.BlockingClient(proxy.address, reconnect=HASTY) as client:
            return list(client.execute("talks", {"count": WORDS, "size": 40, "pause_ms": 10}))

    return await asyncio.to_thread(follow)


@pytest.mark.slow
@pytest.mark.parametrize("follow", [cut_async, cut_blocking])
async def test_a_client_that_is_cut_50_times_sees_every_event_exactly_once_and_in_order(
    server: ServerProcess, client: torana.Client, random_numbers: random.Random, follow: Callable[[Proxy], Any]
) -> None:
    budgets = [random_numbers.randrange(1, 20_000) for _ in range(CUTS)]
    async with proxy_to(server.port, budgets) as proxy:
        events = await follow(proxy)
        assert proxy.cuts == CUTS
    assert_whole(events)
    assert sum(event.kind == "step_emitted" for event in events) == WORDS
    assert told(events) == told(await journal_of(client, events[0].execution))


@on_both_stores
async def test_an_execute_that_is_cut_before_its_first_frame_starts_one_execution(
    server: ServerProcess, client: torana.Client, random_numbers: random.Random
) -> None:
    budgets = [random_numbers.randrange(1, 900) for _ in range(10)]
    async with proxy_to(server.port, budgets) as proxy, torana.Client(proxy.address, reconnect=HASTY) as cut:
        events = await read(cut.execute("talks", {"count": 1, "size": 1}, labels={"cut": "early"}))
        assert proxy.cuts == len(budgets)
    assert_whole(events)
    started = [execution.id async for execution in client.list_executions("labels.cut = early")]
    assert started == [events[0].execution]


@pytest.mark.slow
@on_both_stores
async def test_every_watcher_sees_the_same_order_however_often_it_reconnects(
    server: ServerProcess, client: torana.Client, random_numbers: random.Random
) -> None:
    running = await client.start_workflow("talks", {"count": 1_000, "size": 40, "pause_ms": 10})

    async def watch(cuts: int) -> list[bytes]:
        budgets = [random_numbers.randrange(2_000, 20_000) for _ in range(cuts)]
        async with proxy_to(server.port, budgets) as proxy, torana.Client(proxy.address, reconnect=HASTY) as cut:
            return told(await read(cut.watch(running.id)))

    seen = await asyncio.gather(*(watch(cuts) for cuts in range(8)))
    expected = told(await journal_of(client, running.id))
    assert len(expected) > 1_000
    assert [told == expected for told in seen] == [True] * 8


@on_both_stores
async def test_a_watch_starts_right_after_the_sequence_it_names(client: torana.Client) -> None:
    done = await client.execute_workflow("talks", {"count": 3, "size": 1})
    events = await journal_of(client, done.execution_id)
    for after in range(len(events) + 1):
        assert told(await read(client.watch(done.execution_id, after))) == told(events[after:])
    with pytest.raises(torana.errors.InvalidRequestError) as refused:
        await read(client.watch(done.execution_id, len(events) + 1))
    assert refused.value.reason == "SEQUENCE_OUT_OF_RANGE"


async def test_a_filter_drops_events_and_no_numbers_and_survives_cuts(
    server: ServerProcess, client: torana.Client, random_numbers: random.Random
) -> None:
    done = await client.execute_workflow("talks", {"count": 500, "size": 100})
    events = await journal_of(client, done.execution_id)
    wanted = [e for e in events if e.kind == "step_emitted" or e.is_terminal]
    budgets = [random_numbers.randrange(1_000, 20_000) for _ in range(5)]
    async with proxy_to(server.port, budgets) as proxy, torana.Client(proxy.address, reconnect=HASTY) as cut:
        stream = cut.watch(done.execution_id, kinds=["step_emitted"])
        assert told(await read(stream)) == told(wanted)
        assert stream.last_sequence == len(events)
        of_step = await read(cut.watch(done.execution_id, steps=["conclude"]))
        assert told(of_step) == told([e for e in events if e.step in ("", "conclude")])
    nothing = await read(client.watch(done.execution_id, kinds=["step_failed"]))
    assert told(nothing) == told(events[-1:])


@pytest.mark.slow
async def test_slow_consumers_cost_bounded_memory_and_miss_nothing(tmp_path: Path) -> None:
    count, size, consumers = 4_000, 8_000, 6
    with running_server("served.streaming", tmp_path / "data") as server:
        async with torana.Client(server.address) as client:
            await client.execute_workflow("talks", {"count": count, "size": size})
            before_mib = server.peak_rss_mib()
            running = await client.start_workflow("talks", {"count": count, "size": size, "pause_ms": 2})
            slow = [client.watch(running.id) for _ in range(consumers)]
            first = [await anext(stream) for stream in slow]
            await read(client.watch(running.id, kinds=["step_completed"]))
            grown_mib = server.peak_rss_mib() - before_mib
            # Held back for them: their number times 32 MB.
            assert grown_mib < 64, f"{consumers} clients that did not read cost {grown_mib:.0f} MiB"
            expected = told(await journal_of(client, running.id))
            for stream, event in zip(slow, first, strict=True):
                assert told([event, *await read(stream)]) == expected


async def test_a_quiet_stream_gets_heartbeats_that_carry_its_cursor(server: ServerProcess, doors: Gates) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        request = {
            "workflow": "waits",
            "parameters": {"value": {"struct_value": {"gates": doors.port, "gate": "quiet"}}},
        }
        stream = stub.Execute(pb.ExecuteRequest(request=request, heartbeat_interval={"seconds": 1}))
        through, heartbeats = 0, 0
        async for response in stream:
            frame = response.frame
            through = max(through, frame.batch.through_sequence)
            if frame.HasField("heartbeat"):
                heartbeats += 1
                assert frame.heartbeat.through_sequence == through
                doors.open("quiet")
        assert heartbeats >= 1
        assert frame.end.reason == END.REASON_EXECUTION_FINISHED


async def follow_async(proxy: Proxy, parameters: dict[str, Any]) -> list[torana.Event]:
    async with torana.Client(proxy.address, heartbeat_s=HEARTBEAT_S, reconnect=HASTY) as client:
        return await read(client.execute("waits", parameters))


async def follow_blocking(proxy: Proxy, parameters: dict[str, Any]) -> list[torana.Event]:
    def follow() -> list[torana.Event]:
        with torana.BlockingClient(proxy.address, heartbeat_s=HEARTBEAT_S, reconnect=HASTY) as client:
            return list(client.execute("waits", parameters))

    return await asyncio.to_thread(follow)


@pytest.mark.slow
@pytest.mark.parametrize("follow", [follow_async, follow_blocking])
async def test_a_client_leaves_a_connection_that_fell_silent_within_three_heartbeats(
    server: ServerProcess, client: torana.Client, doors: Gates, follow: Callable[[Proxy, dict[str, Any]], Any]
) -> None:
    gate = follow.__name__
    async with proxy_to(server.port) as proxy:
        following = asyncio.create_task(follow(proxy, {"gates": doors.port, "gate": gate}))
        await doors.arrived(gate)
        proxy.fall_silent()
        doors.open(gate)
        seen = await asyncio.wait_for(following, 10 * HEARTBEAT_S)
    assert_whole(seen)
    assert told(seen) == told(await journal_of(client, seen[0].execution))


async def test_a_call_on_a_connection_that_is_left_is_unavailable_and_the_next_one_works(
    server: ServerProcess, doors: Gates
) -> None:
    async with (
        proxy_to(server.port) as proxy,
        torana.Client(proxy.address, heartbeat_s=HEARTBEAT_S, reconnect=HASTY) as client,
    ):
        following = asyncio.create_task(read(client.execute("waits", {"gates": doors.port, "gate": "calls"})))
        await doors.arrived("calls")
        proxy.fall_silent()
        with pytest.raises(torana.errors.UnavailableError):
            await client.get_info()
        assert (await client.get_info()).durable
        doors.open("calls")
        assert_whole(await following)


@on_both_stores
async def test_execute_with_a_known_key_attaches_and_streams_from_the_beginning(
    client: torana.Client, doors: Gates
) -> None:
    parameters = {"gates": doors.port, "gate": "attached"}
    first = client.execute("waits", parameters, idempotency_key="one")
    begun = [await anext(first)]
    await doors.arrived("attached")
    second = client.execute("waits", parameters, idempotency_key="one")
    again = [await anext(second)]
    doors.open("attached")
    begun += await read(first)
    again += await read(second)
    late = await read(client.execute("waits", parameters, idempotency_key="one"))
    resumed = await read(client.execute("waits", parameters, idempotency_key="one", after_sequence=3))
    assert_whole(begun)
    assert told(begun) == told(again) == told(late)
    assert told(resumed) == told(begun[3:])


async def test_a_client_that_goes_away_stops_nothing(client: torana.Client, doors: Gates) -> None:
    stream = client.execute("waits", {"gates": doors.port, "gate": "left"})
    execution = (await anext(stream)).execution
    await doors.arrived("left")
    await stream.aclose()
    doors.open("left")
    assert (await journal_of(client, execution))[-1].kind == "completed"


async def until_finished(feed: torana.ExecutionFeed, execution: str) -> torana.Event:
    async for event in feed:
        if event.execution == execution and event.is_terminal:
            return event
    raise AssertionError("a feed never ends")


@on_both_stores
async def test_cancel_on_disconnect_cancels_once_nobody_was_attached_for_the_grace(
    client: torana.Client, doors: Gates
) -> None:
    async with client.watch_executions(cursor="0") as feed:
        stream = client.execute(
            "waits", {"gates": doors.port, "gate": "lonely"}, cancel_on_disconnect=True, disconnect_grace=0.2
        )
        execution = (await anext(stream)).execution
        await doors.arrived("lonely")
        await stream.aclose()
        assert (await until_finished(feed, execution)).kind == "cancelled"


@pytest.mark.slow
async def test_cancel_on_disconnect_spares_an_execution_that_a_caller_came_back_to(
    server: ServerProcess, client: torana.Client, doors: Gates
) -> None:
    grace_s = 2.0
    async with proxy_to(server.port) as proxy, torana.Client(proxy.address, reconnect=HASTY) as cut:
        stream = cut.execute(
            "waits", {"gates": doors.port, "gate": "back"}, cancel_on_disconnect=True, disconnect_grace=grace_s
        )
        seen = [await anext(stream)]
        await doors.arrived("back")
        proxy.reset_all()
        rest = asyncio.create_task(read(stream))
        async with grpc.aio.insecure_channel(server.address) as channel:
            # Of no execution, so that it keeps none alive: three heartbeats are longer than the grace.
            stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
            feed = stub.WatchExecutions(pb.WatchExecutionsRequest(heartbeat_interval={"seconds": 1}))
            for _ in range(1 + 3):
                await feed.read()
            feed.cancel()
        doors.open("back")
        seen += await rest
    assert_whole(seen)
    assert seen[-1].kind == "completed"


async def frames_of(stream: Any) -> list[Any]:
    """What is left of a raw stream. By `read`, which does not mix with iteration."""
    frames = []
    while (response := await stream.read()) is not grpc.aio.EOF:
        frames.append(response.frame)
    return frames


async def health_until(channel: grpc.aio.Channel, wanted: int) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    async for response in stub.Watch(health_pb2.HealthCheckRequest()):
        if response.status == wanted:
            return


@pytest.mark.slow
async def test_a_draining_server_says_so_lets_steps_finish_and_its_clients_go_on_elsewhere(
    tmp_path: Path, doors: Gates
) -> None:
    serving = health_pb2.HealthCheckResponse
    with running_server("served.streaming", tmp_path / "data") as server:
        async with (
            grpc.aio.insecure_channel(server.address) as channel,
            torana.Client(server.address, reconnect=HASTY) as client,
        ):
            await health_until(channel, serving.SERVING)
            followed = client.execute("waits", {"gates": doors.port, "gate": "drained"})
            seen = [await anext(followed)]
            await doors.arrived("drained")
            stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
            raw: Any = stub.WatchExecution(pb.WatchExecutionRequest(execution=seen[0].execution))
            opened = (await raw.read()).frame.opened
            server.terminate()
            await health_until(channel, serving.NOT_SERVING)
            with pytest.raises(torana.errors.UnavailableError) as refused:
                await client.start_workflow("talks", {"count": 1, "size": 1})
            assert refused.value.reason == "SERVER_DRAINING"
            doors.open("drained")
            frames = await frames_of(raw)
            rest = asyncio.create_task(read(followed))
            assert await asyncio.to_thread(server.wait) == 0
            await asyncio.to_thread(server.start)
            seen += await rest
    end = frames[-1].end
    assert (end.reason, end.resumable) == (END.REASON_SERVER_DRAINING, True)
    drained = [event.WhichOneof("kind") for frame in frames for event in frame.batch.events]
    assert drained[-1] == "step_completed", "the step that ran was let finish, and nothing new was started"
    assert end.through_sequence == len(drained) >= opened.latest_sequence
    assert_whole(seen)
    assert [e.attempt for e in seen if e.kind == "step_started"] == [1, 1]


def test_a_server_that_is_told_to_stop_as_soon_as_it_serves_drains(tmp_path: Path) -> None:
    with running_server("served.streaming", tmp_path / "data") as server:
        server.stop()


@pytest.mark.slow
@on_both_stores
async def test_a_feed_resumes_at_its_cursor_in_the_order_of_each_execution(
    server: ServerProcess, client: torana.Client, random_numbers: random.Random
) -> None:
    labels, parameters = {"feed": "yes"}, {"count": 40, "size": 100}
    done = [await client.execute_workflow("talks", parameters, labels=labels) for _ in range(5)]
    total = sum(result.event_count for result in done)
    budgets = [random_numbers.randrange(1_000, 8_000) for _ in range(8)]
    async with proxy_to(server.port, budgets) as proxy, torana.Client(proxy.address, reconnect=HASTY) as cut:
        async with cut.watch_executions("labels.feed = yes", cursor="0") as feed:
            seen = [await anext(feed) for _ in range(total)]
        assert proxy.cuts
        middle = random_numbers.randrange(total)
        async with cut.watch_executions("labels.feed = yes", cursor=seen[middle].cursor) as feed:
            # From the cursor on nothing is missed; what came in the same batch may come again.
            again = [await anext(feed)]
            while again[-1].sequence != seen[-1].sequence or again[-1].execution != seen[-1].execution:
                again.append(await anext(feed))
    for result in done:
        of_this = [event for event in seen if event.execution == result.execution_id]
        assert told(of_this) == told(await journal_of(client, result.execution_id))
    assert told(again) == told(seen[total - len(again) :])
    assert len(again) >= total - middle - 1
