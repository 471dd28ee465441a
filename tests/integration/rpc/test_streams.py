"""The streaming contract, over the wire."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from integration.rpc.parts import Parts, pb, serving
from integration.rpc.problems import problem_in, problem_in_status, problem_of
from torana.v1 import execution_pb2, stream_pb2
from torana_server.core.errors import UnavailableError
from torana_server.rpc import RpcSettings

END = stream_pb2.StreamEnd
TWENTY = {"json": '{"number": 20}'}


async def frames_of(stream: Any) -> list[Any]:
    """What is left of a stream. By `read`, which does not mix with iteration."""
    frames = []
    while (response := await stream.read()) is not grpc.aio.EOF:
        frames.append(response.frame)
    return frames


def events_in(frames: list[Any]) -> list[Any]:
    return [event for frame in frames for event in frame.batch.events]


async def until_running(parts: Parts, stream: Any) -> str:
    """Reads a stream of `waits` until its step runs; the execution."""
    opened = (await stream.read()).frame.opened
    seen: list[str] = []
    while "step_started" not in seen:
        seen += [event.WhichOneof("kind") for event in (await stream.read()).frame.batch.events]
    await parts.gates.running.wait()
    return str(opened.execution)


def watch(parts: Parts, execution: str, **fields: Any) -> Any:
    return parts.stream("ExecutionService/WatchExecution", pb.WatchExecutionRequest(execution=execution, **fields))


async def test_execute_streams_opened_every_event_and_the_end(parts: Parts) -> None:
    frames = await parts.run("adds", parameters=TWENTY)
    assert [frame.WhichOneof("kind") for frame in (frames[0], frames[-1])] == ["opened", "end"]
    events = events_in(frames)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.WhichOneof("kind") for event in events if event.step] == ["step_started", "step_completed"] * 2
    assert events[-1].WhichOneof("kind") == "completed"
    assert frames[-1].end == END(
        reason=END.REASON_EXECUTION_FINISHED,
        through_sequence=len(events),
        state=execution_pb2.EXECUTION_STATE_COMPLETED,
    )


async def test_a_google_protobuf_value_serves_as_parameters(parts: Parts) -> None:
    frames = await parts.run("adds", parameters={"value": {"struct_value": {"number": 4}}})
    outputs = {e.step: e.step_completed.output.json for e in events_in(frames) if e.HasField("step_completed")}
    assert outputs == {"double": '{"n":8}', "add_one": '{"n":9}'}


async def test_batches_join_without_a_gap(parts: Parts) -> None:
    batches = [frame.batch for frame in await parts.run("adds", parameters=TWENTY) if frame.HasField("batch")]
    cursor = 0
    for batch in batches:
        assert batch.after_sequence == cursor
        assert [event.sequence for event in batch.events] == list(range(cursor + 1, batch.through_sequence + 1))
        cursor = batch.through_sequence


async def test_a_workflow_that_fails_is_an_event_and_not_an_error_of_the_call(parts: Parts) -> None:
    frames = await parts.run("fails")
    assert events_in(frames)[-1].failed.error.type == "ValueError"
    assert frames[-1].end.state == execution_pb2.EXECUTION_STATE_FAILED


async def test_every_watcher_sees_the_same_bytes_from_wherever_it_resumes(parts: Parts) -> None:
    first = events_in(await parts.run("adds", parameters=TWENTY))
    for after in range(len(first)):
        again = events_in(await frames_of(watch(parts, first[0].execution, after_sequence=after)))
        assert [e.SerializeToString() for e in again] == [e.SerializeToString() for e in first[after:]]


async def test_resuming_behind_the_last_event_gives_the_end_at_once(parts: Parts) -> None:
    frames = await parts.run("fails")
    execution, last = frames[0].opened.execution, frames[-1].end.through_sequence
    opened, end = await frames_of(watch(parts, execution, after_sequence=last))
    assert opened.opened.latest_sequence == last
    assert end.end == frames[-1].end


async def test_a_known_idempotency_key_attaches_and_streams_from_the_beginning(parts: Parts) -> None:
    first = await parts.run("adds", parameters=TWENTY, idempotency_key="k")
    again = await parts.run("adds", parameters=TWENTY, idempotency_key="k")
    assert (first[0].opened.attached, again[0].opened.attached) == (False, True)
    assert events_in(first) == events_in(again)


async def test_an_idempotency_key_with_another_request_names_the_execution(parts: Parts) -> None:
    first = await parts.run("adds", parameters=TWENTY, idempotency_key="k")
    wanted = pb.ExecuteRequest(request={"workflow": "adds", "idempotency_key": "k"})
    problem = await problem_of(parts.stream("ExecutionService/Execute", wanted))
    assert (problem.code, problem.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT")
    assert problem.metadata == {"execution": first[0].opened.execution}


async def test_a_filter_drops_events_but_no_sequences_and_never_the_last(parts: Parts) -> None:
    wanted = pb.ExecuteRequest(
        request={"workflow": "adds", "parameters": TWENTY}, filter={"kinds": [19], "steps": ["add_one"]}
    )
    frames = await frames_of(parts.stream("ExecutionService/Execute", wanted))
    assert [(e.WhichOneof("kind"), e.step) for e in events_in(frames)] == [
        ("step_completed", "add_one"),
        ("completed", ""),
    ]
    batches = [frame.batch for frame in frames if frame.HasField("batch")]
    assert [b.after_sequence for b in batches] == [0, *(b.through_sequence for b in batches[:-1])]
    assert frames[-1].end.through_sequence == batches[-1].through_sequence == 7


async def test_a_quiet_stream_says_that_it_lives(parts: Parts) -> None:
    wanted = pb.ExecuteRequest(request={"workflow": "waits"}, heartbeat_interval=Duration(seconds=1))
    stream = parts.stream("ExecutionService/Execute", wanted)
    opened = (await stream.read()).frame.opened
    assert opened.heartbeat_interval == Duration(seconds=1)
    through = 0
    while not (frame := (await stream.read()).frame).HasField("heartbeat"):
        through = frame.batch.through_sequence
    assert frame.heartbeat.through_sequence == through > 0
    parts.gates.open.set()
    assert (await frames_of(stream))[-1].end.reason == END.REASON_EXECUTION_FINISHED


async def test_a_stream_that_is_too_old_ends_resumable_and_goes_on() -> None:
    async with serving(RpcSettings(address="127.0.0.1:0", stream_age_s_max=1)) as parts:
        frames = await parts.run("waits")
        assert frames[-1].end == END(
            reason=END.REASON_MAX_STREAM_AGE,
            through_sequence=events_in(frames)[-1].sequence,
            resumable=True,
        )
        parts.gates.open.set()
        rest = await frames_of(watch(parts, frames[0].opened.execution, after_sequence=frames[-1].end.through_sequence))
        assert rest[-1].end.reason == END.REASON_EXECUTION_FINISHED
        assert events_in(rest)[0].sequence == events_in(frames)[-1].sequence + 1


async def test_a_client_that_goes_away_frees_its_stream_and_stops_nothing(parts: Parts) -> None:
    stream = parts.stream("ExecutionService/Execute", pb.ExecuteRequest(request={"workflow": "waits"}))
    execution = await until_running(parts, stream)
    assert parts.server.stats()["rpc_streams_open"] == 1
    stream.cancel()
    again = watch(parts, execution)
    await again.read()
    parts.gates.open.set()
    assert (await frames_of(again))[-1].end.state == execution_pb2.EXECUTION_STATE_COMPLETED
    await parts.server.drain()
    assert parts.server.stats()["rpc_streams_open"] == 0


async def test_more_streams_than_allowed_are_refused_with_a_time_to_come_back() -> None:
    async with serving(RpcSettings(address="127.0.0.1:0", streams_max=1)) as parts:
        stream = parts.stream("ExecutionService/Execute", pb.ExecuteRequest(request={"workflow": "waits"}))
        execution = await until_running(parts, stream)
        problem = await problem_of(watch(parts, execution))
        assert (problem.code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert problem.metadata == {"limit": "1"}
        assert problem.retry_after_s
        parts.gates.open.set()
        await frames_of(stream)
        assert (await frames_of(watch(parts, execution)))[-1].HasField("end")


async def test_draining_ends_streams_resumable_and_takes_no_new_ones(parts: Parts) -> None:
    stream = parts.stream("ExecutionService/Execute", pb.ExecuteRequest(request={"workflow": "waits"}))
    execution = await until_running(parts, stream)
    everything = parts.stream("ExecutionService/WatchExecutions", pb.WatchExecutionsRequest())
    await everything.read()
    await parts.server.drain()
    end = (await frames_of(stream))[-1].end
    assert (end.reason, end.resumable) == (END.REASON_SERVER_DRAINING, True)
    assert (await everything.read()).end == END(reason=END.REASON_SERVER_DRAINING, resumable=True)
    problem = await problem_of(watch(parts, execution))
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    assert problem.retry_after_s


async def test_streams_of_a_draining_engine_see_what_still_finishes_and_then_end(parts: Parts) -> None:
    stream = parts.stream("ExecutionService/Execute", pb.ExecuteRequest(request={"workflow": "waits"}))
    execution = await until_running(parts, stream)
    draining = asyncio.create_task(parts.engine.drain(20))
    refused = pb.ExecuteRequest(request={"workflow": "adds"})
    assert (await problem_of(parts.stream("ExecutionService/Execute", refused))).reason == "SERVER_DRAINING"
    parts.gates.open.set()
    frames = await frames_of(stream)
    assert events_in(frames)[0].WhichOneof("kind") == "step_completed"
    assert frames[-1].end.reason in (END.REASON_SERVER_DRAINING, END.REASON_EXECUTION_FINISHED)
    await draining
    assert execution


async def test_expired_events_come_with_what_is_left_of_the_execution(parts: Parts, monkeypatch) -> None:
    frames = await parts.run("fails", idempotency_key="k", labels={"team": "x"})
    execution = frames[0].opened.execution
    kept = await parts.journal.get(execution)
    assert kept is not None

    async def get(execution: str) -> Any:
        return replace(kept, oldest_sequence=kept.latest_sequence + 1)

    async def find(*key: str) -> Any:
        return await get("")

    monkeypatch.setattr(parts.journal, "get", get)
    for stream in (
        watch(parts, execution),
        parts.stream(
            "ExecutionService/Execute",
            pb.ExecuteRequest(request={"workflow": "fails", "idempotency_key": "k", "labels": {"team": "x"}}),
        ),
    ):
        problem = await problem_of(stream)
        assert (problem.code, problem.reason) == (grpc.StatusCode.OUT_OF_RANGE, "EVENTS_EXPIRED")
        assert problem.metadata == {"execution": execution, "state": "FAILED"}
        assert problem.execution is not None
        assert problem.execution.id == execution
        assert problem.execution.state == execution_pb2.EXECUTION_STATE_FAILED
        assert dict(problem.execution.labels) == {"team": "x"}
    # Behind the last event nothing is missed.
    opened, end = await frames_of(watch(parts, execution, after_sequence=kept.latest_sequence))
    assert opened.opened.oldest_sequence == kept.latest_sequence + 1
    assert end.end.state == execution_pb2.EXECUTION_STATE_FAILED


async def test_an_error_in_the_middle_is_told_within_the_stream_and_by_the_status(parts: Parts, monkeypatch) -> None:
    execution = (await parts.run("adds", parameters=TWENTY))[0].opened.execution

    async def read(*args: Any, **limits: Any) -> Any:
        raise UnavailableError("the journal cannot be read", retry_after_s=2)

    monkeypatch.setattr(parts.journal, "read", read)
    stream = watch(parts, execution)
    frames = [(await stream.read()).frame, (await stream.read()).frame]
    end = frames[1].end
    assert (end.reason, end.resumable, end.through_sequence) == (END.REASON_ERROR, True, 0)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stream.read()
    by_status = problem_in(failed.value)
    assert (by_status.code, by_status.reason) == (grpc.StatusCode.UNAVAILABLE, "JOURNAL_UNAVAILABLE")
    assert replace(by_status, trailers={}) == problem_in_status(end.status, by_status.code, {})


async def test_watching_many_begins_at_the_cursor_and_keeps_each_order(parts: Parts) -> None:
    first, second = [events_in(await parts.run("adds", parameters=TWENTY)) for _ in range(2)]
    stream = parts.stream("ExecutionService/WatchExecutions", pb.WatchExecutionsRequest(cursor="0"))
    seen: list[Any] = []
    while len(seen) < len(first) + len(second):
        message = await stream.read()
        seen += message.events
    assert [e for e in seen if e.execution == first[0].execution] == first
    assert [e for e in seen if e.execution == second[0].execution] == second
    stream.cancel()
    later = parts.stream("ExecutionService/WatchExecutions", pb.WatchExecutionsRequest(cursor=message.cursor))
    await later.read()
    third = events_in(await parts.run("fails"))
    seen = []
    while len(seen) < len(third):
        seen += (await later.read()).events
    assert seen == third
    later.cancel()


async def test_watching_many_from_now_on_gives_a_cursor_at_once_and_filters(parts: Parts) -> None:
    await parts.run("adds", parameters=TWENTY)
    wanted = pb.WatchExecutionsRequest(filter='workflow = "fails" AND labels.team = a', kinds=[27])
    stream = parts.stream("ExecutionService/WatchExecutions", wanted)
    opened = await stream.read()
    assert opened.cursor
    assert not opened.events
    assert opened.HasField("server_time")
    await parts.run("adds", parameters=TWENTY)
    await parts.run("fails")
    labelled = (await parts.run("fails", labels={"team": "a"}))[0].opened.execution
    events: list[Any] = []
    while not events:
        events += (await stream.read()).events
    assert [(e.execution, e.WhichOneof("kind")) for e in events] == [(labelled, "failed")]
    stream.cancel()


async def test_a_cursor_of_another_journal_is_refused_instead_of_waiting_for_ever(parts: Parts) -> None:
    await parts.run("adds", parameters=TWENTY)
    stream = parts.stream("ExecutionService/WatchExecutions", pb.WatchExecutionsRequest(cursor="0"))
    cursor = ""
    while not (message := await stream.read()).events:
        pass
    cursor = message.cursor
    stream.cancel()
    async with serving() as restarted:
        wanted = pb.WatchExecutionsRequest(cursor=cursor)
        problem = await problem_of(restarted.stream("ExecutionService/WatchExecutions", wanted))
        assert problem.reason == "INVALID_PAGE_TOKEN"
