"""Streams of both clients against a scripted server: the same scenarios, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torana
from torana import errors
from torana.v1 import event_pb2, execution_pb2, execution_service_pb2
from unit.client.runs import (
    END,
    UNAVAILABLE,
    WHOLE,
    Run,
    batch,
    completed,
    end,
    event,
    execute,
    opened,
    output,
    run,
    sequences,
    server,
)
from unit.client.scripted_server import Abort, Cut, ScriptedServer, Stall, scripted_server

__all__ = ["run", "server"]  # fixtures


# a stream that is not disturbed


async def test_a_stream_is_one_flat_iterator(server: ScriptedServer, run: Run) -> None:
    server.streams = [WHOLE]
    events = await run.events(server, execute)
    assert [(event.sequence, event.kind) for event in events] == [
        (1, "step_progress"),
        (2, "step_progress"),
        (3, "completed"),
    ]
    assert events[0].data["fraction"] == 0.01
    [(name, request)] = server.opened
    assert (name, request.request.workflow) == ("Execute", "etl")
    assert request.heartbeat_interval == Duration(seconds=15)


async def test_a_watch_starts_after_a_sequence_with_its_filter(server: ScriptedServer, run: Run) -> None:
    server.streams = [[opened(), batch(event(9), after=4), batch(completed(12), after=9), end(through=12)]]

    def watch(client: Any) -> Any:
        return client.watch("e-1", 4, kinds=["step_progress"], steps=["load"])

    assert sequences(await run.events(server, watch)) == [9, 12]
    [(name, request)] = server.opened
    assert (name, request.execution, request.after_sequence) == ("WatchExecution", "e-1", 4)
    assert list(request.filter.kinds) == [event_pb2.EVENT_KIND_STEP_PROGRESS]
    assert list(request.filter.steps) == ["load"]


async def test_leaving_a_stream_cancels_the_call_and_says_where_to_resume(server: ScriptedServer, run: Run) -> None:
    server.streams = [[opened(), batch(event(1), event(2), event(3)), Stall()]]
    stream = await run.first(server, execute, 2)
    assert (stream.execution_id, stream.last_sequence) == ("e-1", 2)
    async with asyncio.timeout(5):
        await server.left.wait()


# a stream that is lost


@pytest.mark.parametrize(
    "loss",
    [
        [UNAVAILABLE],
        [Abort(grpc.StatusCode.CANCELLED)],
        [Abort(grpc.StatusCode.INTERNAL, message="Received RST_STREAM with error code 2")],
        [],
        [end(END.REASON_SERVER_DRAINING, resumable=True)],
        [end(END.REASON_MAX_STREAM_AGE, resumable=True)],
    ],
    ids=["unavailable", "cancelled", "reset", "no-end", "draining", "max-age"],
)
async def test_a_lost_stream_goes_on_where_it_was(server: ScriptedServer, run: Run, loss: list[Any]) -> None:
    server.streams = [
        [opened(), batch(event(1), event(2)), *loss],
        [opened(), batch(event(3)), batch(completed(4)), end(through=4)],
    ]
    assert sequences(await run.events(server, execute)) == [1, 2, 3, 4]
    assert [(name, request.after_sequence) for name, request in server.opened] == [
        ("Execute", 0),
        ("WatchExecution", 2),
    ]


async def test_a_silent_stream_is_lost(server: ScriptedServer, run: Run) -> None:
    server.streams = [
        [opened(heartbeat_s=0.02), batch(event(1)), Stall()],
        [opened(), batch(completed(2)), end(through=2)],
    ]
    assert sequences(await run.events(server, execute)) == [1, 2]
    async with asyncio.timeout(5):
        await server.left.wait()


async def test_events_that_come_again_are_dropped(server: ScriptedServer, run: Run) -> None:
    server.streams = [[opened(), batch(event(1), event(2)), UNAVAILABLE], WHOLE]
    assert sequences(await run.events(server, execute)) == [1, 2, 3]


async def test_a_failure_before_the_first_frame_repeats_execute_with_the_same_key(
    server: ScriptedServer, run: Run
) -> None:
    server.streams = [[UNAVAILABLE], [Cut()], WHOLE]
    assert sequences(await run.events(server, execute)) == [1, 2, 3]
    assert [name for name, _ in server.opened] == ["Execute"] * 3
    keys = {request.request.idempotency_key for _, request in server.opened}
    assert len(keys) == 1
    assert keys != {""}


async def test_a_full_queue_is_waited_for_as_long_as_it_says(server: ScriptedServer, run: Run) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=1_000_000))
    full = Abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", [retry])
    server.streams = [[full], WHOLE]
    assert sequences(await run.events(server, execute)) == [1, 2, 3]


async def test_a_cut_after_the_terminal_event_is_the_end(server: ScriptedServer, run: Run) -> None:
    server.streams = [[opened(), batch(completed(1)), UNAVAILABLE]]
    assert sequences(await run.events(server, execute)) == [1]
    assert len(server.opened) == 1


def journal(count: int, *, overlap: int = 0, frames: int = 99, loss: Any = None) -> Callable[[int], list[Any]]:
    """An execution of `count` events; a stream begins `overlap` events early and is lost after so many frames."""

    def script(after: int) -> list[Any]:
        start = max(0, after - overlap)
        numbers = range(start + 1, count + 1)[:frames]
        batches = [batch(completed(number) if number == count else event(number)) for number in numbers]
        return [opened(), *batches, loss or end(through=count)]

    return script


async def test_a_cut_connection_loses_nothing(server: ScriptedServer, run: Run) -> None:
    server.streams = [journal(4, frames=2, loss=Cut()), journal(4, frames=3, loss=Cut()), journal(4)]
    assert sequences(await run.events(server, execute)) == [1, 2, 3, 4]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    losses=st.lists(
        st.builds(
            journal,
            st.just(12),
            overlap=st.integers(0, 3),
            frames=st.integers(0, 4),
            loss=st.sampled_from([UNAVAILABLE, Cut(), end(END.REASON_SERVER_DRAINING, resumable=True)]),
        ),
        max_size=5,
    )
)
def test_any_losses_deliver_every_event_exactly_once_in_order(run: Run, losses: list[Any]) -> None:
    async def follow() -> list[torana.Event]:
        async with scripted_server() as server:
            server.streams = [*losses, journal(12)]
            return await run.events(server, execute)

    assert sequences(asyncio.run(follow())) == list(range(1, 13))


# a stream that ends for good


@pytest.mark.parametrize(
    ("abort", "expected"),
    [
        (Abort(grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND"), errors.WorkflowNotFoundError),
        (Abort(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), errors.InvalidRequestError),
        (Abort(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"), errors.UnauthenticatedError),
        (Abort(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"), errors.PermissionDeniedError),
        (Abort(grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_NOT_BOUND"), errors.ResourceNotBoundError),
        (Abort(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT"), errors.IdempotencyConflictError),
        (Abort(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED"), errors.EventsExpiredError),
        (Abort(grpc.StatusCode.RESOURCE_EXHAUSTED), errors.ExhaustedError),
        (Abort(grpc.StatusCode.INTERNAL, "INTERNAL"), errors.InternalError),
    ],
)
async def test_an_answer_is_final(
    server: ScriptedServer, run: Run, abort: Abort, expected: type[errors.ToranaError]
) -> None:
    server.streams = [[abort]]
    with pytest.raises(expected) as caught:
        await run.events(server, execute)
    assert type(caught.value) is expected
    assert len(server.opened) == 1


async def test_an_error_in_the_last_frame_is_final(server: ScriptedServer, run: Run) -> None:
    status = Abort(grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED").status()
    server.streams = [[opened(), end(END.REASON_ERROR, status=status)]]
    with pytest.raises(errors.EventsExpiredError):
        await run.events(server, execute)


async def test_a_gap_is_an_error(server: ScriptedServer, run: Run) -> None:
    server.streams = [[opened(), batch(event(1)), batch(event(4)), Stall()]]
    with pytest.raises(errors.GapError, match="event 1 to 4"):
        await run.events(server, execute)
    async with asyncio.timeout(5):
        await server.left.wait()


async def test_a_server_that_cannot_be_reached_is_given_up(run: Run, server: ScriptedServer) -> None:
    server.address = "127.0.0.1:1"
    patience = torana.ReconnectPolicy(initial_s=0.05, max_s=0.05, connect_timeout_s=0.2)
    with pytest.raises(errors.ConnectionLostError, match="given up: failed to connect") as caught:
        await run.events(server, execute, reconnect=patience)
    assert caught.value.execution_id == ""


async def test_a_server_that_asks_for_more_patience_than_there_is_is_given_up(run: Run, server: ScriptedServer) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=60))
    server.streams = [[Abort(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", [retry])]]
    with pytest.raises(errors.ConnectionLostError) as caught:
        await run.events(server, execute)
    assert (caught.value.reason, caught.value.retry_after_s) == ("SERVER_DRAINING", 60.0)


async def test_a_lost_server_is_given_up_with_the_place_to_resume_from(run: Run, server: ScriptedServer) -> None:
    server.streams = [[opened(), batch(event(1), event(2)), UNAVAILABLE], [UNAVAILABLE]]
    patience = torana.ReconnectPolicy(initial_s=0.0, max_s=0.0, max_reconnect_s=0.0)
    with pytest.raises(errors.ConnectionLostError) as caught:
        await run.events(server, execute, reconnect=patience)
    assert (caught.value.execution_id, caught.value.last_sequence) == ("e-1", 2)


async def test_a_deadline_ends_the_wait_and_not_the_execution(server: ScriptedServer, run: Run) -> None:
    server.streams = [[opened(), batch(event(1)), Stall()]]
    with pytest.raises(TimeoutError) as caught:
        await run.call(server, lambda client: client.execute_workflow("etl", deadline_s=0.3))
    assert isinstance(caught.value, errors.DeadlineExceededError)
    assert [name for name, _ in server.requests] == ["Execute"]


# results


async def test_a_workflow_returns_its_steps_outputs(server: ScriptedServer, run: Run) -> None:
    lines = [batch(output(4, '{"at":"2026-01-15"}', at="date"), after=0), batch(completed(6, load=4), after=4)]
    server.streams = [[opened(), *lines, end(through=6)]]
    result = await run.call(server, lambda client: client.execute_workflow("etl", {"n": 1}, labels={"team": "a"}))
    assert (result.execution_id, result.status, result.is_success) == ("e-1", "completed", True)
    assert str(result.result["load"]["at"]) == "2026-01-15"
    assert result.event_count == 6
    assert result.raise_for_status() is result
    request = server.opened[0][1]
    assert request.request.parameters.json == '{"n":1}'
    assert request.request.labels["team"] == "a"
    kinds = [event_pb2.EVENT_KIND_STEP_COMPLETED, event_pb2.EVENT_KIND_STEP_REUSED]
    assert list(request.filter.kinds) == kinds


async def test_a_workflow_that_fails_is_a_result(server: ScriptedServer, run: Run) -> None:
    error = execution_pb2.ExecutionError(
        type="ValueError", message="no rows", step="load", attempt=3, reason="STEP_FAILED"
    )
    failed = event(1, failed=event_pb2.ExecutionFailed(error=error))
    server.streams = [[opened(), batch(failed), end(through=1)]]
    result = await run.call(server, lambda client: client.execute_workflow("etl"))
    assert (result.status, result.is_success, result.result) == ("failed", False, {})
    assert result.error.message == "no rows"
    with pytest.raises(torana.WorkflowFailedError, match="step 'load', attempt 3: ValueError: no rows") as caught:
        result.raise_for_status()
    assert caught.value.result is result
    assert caught.value.reason == "STEP_FAILED"


async def test_a_cancelled_workflow_is_a_result(server: ScriptedServer, run: Run) -> None:
    cancelled = event(1, cancelled=event_pb2.ExecutionCancelled(reason="enough"))
    server.streams = [[opened(), batch(cancelled), end(through=1)]]
    result = await run.call(server, lambda client: client.execute_workflow("etl"))
    assert (result.status, result.error) == ("cancelled", None)
    with pytest.raises(torana.WorkflowFailedError, match="e-1 cancelled: it was cancelled"):
        result.raise_for_status()


async def test_outputs_the_stream_did_not_carry_are_read_from_the_server(server: ScriptedServer, run: Run) -> None:
    server.streams = [[opened(), batch(completed(6, load=4), after=5), end(through=6)]]
    kept = execution_pb2.Execution(id="e-1", state=execution_pb2.EXECUTION_STATE_COMPLETED, latest_sequence=6)
    kept.result["load"].json = "42"
    server.answers["GetExecution"] = [execution_service_pb2.GetExecutionResponse(execution=kept)]
    result = await run.result(server, lambda client: client.watch("e-1", 5))
    assert (result.status, result.result, result.event_count) == ("completed", {"load": 42}, 6)


# many executions


def message(cursor: str, *events: event_pb2.ExecutionEvent) -> execution_service_pb2.WatchExecutionsResponse:
    return execution_service_pb2.WatchExecutionsResponse(events=events, cursor=cursor)


async def test_a_feed_goes_on_from_its_cursor(server: ScriptedServer, run: Run) -> None:
    server.streams = [
        [message("c1", event(1), event(2)), message("c2"), UNAVAILABLE],
        [message("c3", event(3)), Abort(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")],
    ]
    got: list[tuple[int, str]] = []

    def watch(client: Any) -> Any:
        return client.watch_executions('workflow = "etl"', cursor="0", kinds=["failed"])

    def note(found: torana.Event) -> None:
        got.append((found.sequence, found.cursor))

    with pytest.raises(errors.InvalidRequestError):
        await run.call(server, lambda client: noting(watch(client), note))
    assert got == [(1, "0"), (2, "c1"), (3, "c3")]
    assert [request.cursor for _, request in server.opened] == ["0", "c2"]
    assert server.opened[0][1].filter == 'workflow = "etl"'


def noting(stream: Any, note: Callable[[torana.Event], None]) -> Any:
    """Reads the stream to its end in the way its client does."""
    if hasattr(stream, "__anext__"):

        async def read() -> None:
            async for found in stream:
                note(found)

        return read()
    for found in stream:
        note(found)
    return None


# what only one kind of client has


async def test_cancelling_the_task_cancels_the_call(server: ScriptedServer) -> None:
    server.streams = [[opened(), batch(event(1)), Stall()]]
    seen = asyncio.Event()
    async with torana.Client(server.address) as client:

        async def read() -> None:
            async for _ in client.execute("etl"):
                seen.set()

        task = asyncio.create_task(read())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.left.wait()


async def test_a_callers_timeout_is_not_taken_for_a_lost_stream(server: ScriptedServer) -> None:
    server.streams = [[opened(), batch(event(1)), Stall()]]
    async with torana.Client(server.address) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.execute_workflow("etl")
    assert len(server.opened) == 1


async def test_a_cancel_between_two_events_of_a_batch_ends_the_stream(server: ScriptedServer) -> None:
    server.streams = [[opened(), batch(event(1), event(2)), Stall()]]

    async def follow() -> None:
        async with torana.Client(server.address) as client, client.watch("e-1") as stream:
            async for _ in stream:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()

    following = asyncio.create_task(follow())
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await following
    assert len(server.opened) == 1


async def test_a_dropped_stream_cancels_its_call(server: ScriptedServer) -> None:
    server.streams = [[opened(), batch(event(1)), Stall()]]
    async with torana.Client(server.address) as client:
        async for _ in client.execute("etl"):
            break
        async with asyncio.timeout(5):
            await server.left.wait()


async def test_a_blocking_stream_can_be_closed_from_another_thread(server: ScriptedServer) -> None:
    server.streams = [[opened(), batch(event(1)), Stall()]]
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()
    client = torana.BlockingClient(server.address)
    stream = client.execute("etl")

    def read() -> list[int]:
        got = []
        for found in stream:
            got.append(found.sequence)
            loop.call_soon_threadsafe(seen.set)
        return got

    reading: Awaitable[list[int]] = asyncio.ensure_future(asyncio.to_thread(read))
    await seen.wait()
    stream.close()
    assert await reading == [1]
    client.close()


async def test_a_closed_client_says_so(server: ScriptedServer) -> None:
    client = torana.Client(server.address)
    await client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        await client.get_info()


def test_a_client_belongs_to_one_event_loop() -> None:
    client = torana.Client("localhost:1")

    async def use() -> None:
        client._connected()

    async def use_elsewhere() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            client._connected()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(use())
        second.run(use_elsewhere())
        first.run(client.close())
