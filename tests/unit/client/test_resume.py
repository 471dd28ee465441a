"""The resume algorithm, without a network."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana import ReconnectPolicy
from torana._resume import Backoff, Cut, ExecutionResume, FeedResume
from torana.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    ExecutionNotFoundError,
    GapError,
    InternalError,
    QueueFullError,
    ToranaError,
    UnavailableError,
)
from torana.v1 import execution_service_pb2, stream_pb2

END = stream_pb2.StreamEnd
UNAVAILABLE = UnavailableError("refused", code=grpc.StatusCode.UNAVAILABLE)


def upper(low: float, high: float) -> float:
    """The longest pause the jitter allows."""
    return high


def resume(
    *, policy: ReconnectPolicy | None = None, deadline_s: float | None = None, filtered: bool = False
) -> ExecutionResume:
    followed = ExecutionResume(Backoff(policy or ReconnectPolicy(), upper, deadline_s=deadline_s), filtered=filtered)
    followed.on_attempt(0.0)
    return followed


def opened(heartbeat_s: int = 10) -> stream_pb2.StreamFrame:
    frame = stream_pb2.StreamFrame(opened=stream_pb2.StreamOpened(execution="e"))
    frame.opened.heartbeat_interval.seconds = heartbeat_s
    return frame


def batch(after: int, *sequences: int, through: int | None = None, terminal: bool = False) -> stream_pb2.StreamFrame:
    frame = stream_pb2.StreamFrame()
    frame.batch.after_sequence = after
    frame.batch.through_sequence = sequences[-1] if through is None else through
    for sequence in sequences:
        frame.batch.events.add(sequence=sequence).step_started.SetInParent()
    if terminal:
        frame.batch.events[-1].completed.SetInParent()
    return frame


def heartbeat(through: int) -> stream_pb2.StreamFrame:
    return stream_pb2.StreamFrame(heartbeat=stream_pb2.Heartbeat(through_sequence=through))


def end(
    reason: END.Reason.ValueType, through: int = 0, *, resumable: bool = False, code: int = 0
) -> stream_pb2.StreamFrame:
    frame = stream_pb2.StreamFrame(end=END(reason=reason, through_sequence=through, resumable=resumable))
    if code:
        frame.end.status.code = code
    return frame


def sequences(followed: ExecutionResume, *frames: stream_pb2.StreamFrame) -> list[int]:
    return [event.sequence for frame in frames for event in followed.on_frame(frame)]


# what is new


def test_events_come_once_and_in_order() -> None:
    followed = resume()
    assert sequences(followed, opened(), batch(0, 1, 2), batch(0, 1, 2, 3), batch(3, 4)) == [1, 2, 3, 4]
    assert (followed.execution_id, followed.cursor, followed.is_finished) == ("e", 4, False)


def test_a_batch_after_the_cursor_is_a_gap() -> None:
    followed = resume()
    with pytest.raises(GapError, match="went from event 2 to 5"):
        sequences(followed, opened(), batch(0, 1, 2), batch(4, 5))


@pytest.mark.parametrize(
    "frame", [batch(2, 3, 5), batch(2, 3, through=4), heartbeat(3), end(END.REASON_EXECUTION_FINISHED, 3)]
)
def test_without_a_filter_every_number_must_come(frame: stream_pb2.StreamFrame) -> None:
    followed = resume()
    with pytest.raises(GapError):
        sequences(followed, opened(), batch(0, 1, 2), frame)


def test_a_filter_drops_events_but_no_numbers() -> None:
    followed = resume(filtered=True)
    assert sequences(followed, opened(), batch(0, 3, 7, through=9), heartbeat(20), batch(20, 22)) == [3, 7, 22]
    assert followed.cursor == 22


def test_a_filtered_stream_still_shows_gaps_between_batches() -> None:
    followed = resume(filtered=True)
    with pytest.raises(GapError):
        sequences(followed, opened(), batch(0, 3, through=9), batch(12, 13))


def test_frames_of_a_newer_server_are_skipped() -> None:
    assert sequences(resume(), stream_pb2.StreamFrame()) == []


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4), st.booleans()), max_size=30))
def test_any_cuts_and_repeats_deliver_every_event_exactly_once_in_order(
    cuts: list[tuple[int, int, bool]],
) -> None:
    """Each attempt re-sends up to some events from before the cursor, delivers a few frames and is cut."""
    last = 20
    followed = resume()
    got: list[int] = []
    for frames, overlap, beats in [*cuts, (last, 0, False)]:
        got += sequences(followed, opened())
        start = max(0, followed.cursor - overlap)
        for _ in range(frames):
            if start == last:
                break
            got += sequences(followed, batch(start, start + 1, terminal=start + 1 == last))
            start += 1
            if beats and start >= followed.cursor:
                got += sequences(followed, heartbeat(start))
        followed.on_lost(Cut.NO_END.error, 0.0)
        if followed.is_finished:
            break
    assert got == list(range(1, last + 1))
    assert followed.is_finished


# what ends a stream


def test_the_end_of_the_execution_finishes_the_stream() -> None:
    followed = resume()
    sequences(followed, opened(), batch(0, 1, terminal=True), end(END.REASON_EXECUTION_FINISHED, 1))
    assert followed.is_finished


def test_a_cut_after_the_terminal_event_loses_nothing() -> None:
    followed = resume()
    sequences(followed, opened(), batch(0, 1, terminal=True))
    assert followed.on_lost(ExecutionNotFoundError("gone"), 0.0) == 0.0
    assert followed.is_finished


def test_a_resumable_end_is_another_attempt() -> None:
    followed = resume()
    sequences(followed, opened(), batch(0, 1))
    with pytest.raises(UnavailableError, match="REASON_SERVER_DRAINING") as caught:
        followed.on_frame(end(END.REASON_SERVER_DRAINING, 1, resumable=True))
    assert followed.on_lost(caught.value, 0.0) == 0.1


def test_a_final_end_raises_its_status() -> None:
    followed = resume()
    with pytest.raises(ToranaError) as caught:
        followed.on_frame(end(END.REASON_ERROR, code=5))
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(ToranaError):
        followed.on_lost(caught.value, 0.0)


def test_an_end_of_an_unknown_reason_is_an_error() -> None:
    with pytest.raises(InternalError, match="before the execution ended: reason 77"):
        resume().on_frame(stream_pb2.StreamFrame(end=END(reason=77)))  # type: ignore[arg-type]  # a newer server's


# what is worth another attempt


@pytest.mark.parametrize(
    "error",
    [
        UNAVAILABLE,
        QueueFullError("full", reason="QUEUE_FULL", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=1),
        UnavailableError("cancelled", code=grpc.StatusCode.CANCELLED),
        InternalError("Received RST_STREAM with error code 2", code=grpc.StatusCode.INTERNAL),
        *(cut.error for cut in Cut),
    ],
)
def test_a_broken_connection_is_worth_another_attempt(error: ToranaError) -> None:
    assert resume().on_lost(error, 0.0) > 0


@pytest.mark.parametrize(
    "error",
    [
        ToranaError("too large", code=grpc.StatusCode.RESOURCE_EXHAUSTED),
        InternalError("RST_STREAM", reason="INTERNAL", code=grpc.StatusCode.INTERNAL),
        InternalError("bug", code=grpc.StatusCode.INTERNAL),
        GapError("gap"),
        *(
            ToranaError(code.name, code=code)
            for code in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.PERMISSION_DENIED,
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.OUT_OF_RANGE,
                grpc.StatusCode.UNKNOWN,
            )
        ),
    ],
)
def test_an_answer_is_final(error: ToranaError) -> None:
    with pytest.raises(type(error)) as caught:
        resume().on_lost(error, 0.0)
    assert caught.value is error


# pauses


def test_pauses_grow_to_their_bound_and_start_again_after_a_new_event() -> None:
    followed = resume(policy=ReconnectPolicy(max_s=0.25))
    sequences(followed, opened(), batch(0, 1))
    assert [round(followed.on_lost(UNAVAILABLE, 0.0), 3) for _ in range(4)] == [0.1, 0.16, 0.25, 0.25]
    sequences(followed, opened(), batch(1, 2))
    assert followed.on_lost(UNAVAILABLE, 0.0) == 0.1


@pytest.mark.parametrize("frame", [opened(), heartbeat(1), batch(0, 1)])
def test_only_a_new_event_makes_pauses_short_again(frame: stream_pb2.StreamFrame) -> None:
    followed = resume()
    sequences(followed, opened(), batch(0, 1))
    followed.on_lost(UNAVAILABLE, 0.0)
    sequences(followed, frame)
    assert followed.on_lost(UNAVAILABLE, 0.0) == pytest.approx(0.16)


def test_the_servers_hint_comes_before_the_pause() -> None:
    error = UnavailableError("draining", code=grpc.StatusCode.UNAVAILABLE, retry_after_s=5)
    assert resume().on_lost(error, 0.0) == pytest.approx(5.1)


# limits


def test_the_first_connection_is_given_up_after_its_own_time() -> None:
    followed = resume()
    followed.on_lost(UNAVAILABLE, 29.0)
    with pytest.raises(ConnectionLostError, match="given up: refused") as caught:
        followed.on_lost(UNAVAILABLE, 30.0)
    assert (caught.value.execution_id, caught.value.last_sequence) == ("", 0)


def test_a_hint_beyond_the_limit_is_handed_to_the_caller() -> None:
    full = QueueFullError("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=31)
    with pytest.raises(QueueFullError):
        resume().on_lost(full, 0.0)


def test_a_lost_stream_is_given_up_without_a_sign_of_life() -> None:
    followed = resume()
    sequences(followed, opened(), batch(0, 1, 2))
    followed.on_lost(UNAVAILABLE, 1000.0)
    sequences(followed, opened())
    followed.on_lost(UNAVAILABLE, 1299.0)
    with pytest.raises(ConnectionLostError) as caught:
        followed.on_lost(UNAVAILABLE, 1300.0)
    assert (caught.value.execution_id, caught.value.last_sequence) == ("e", 2)


@pytest.mark.parametrize("sign", [heartbeat(2), batch(2, 3)])
def test_a_sign_of_life_starts_the_limit_again(sign: stream_pb2.StreamFrame) -> None:
    followed = resume()
    sequences(followed, opened(), batch(0, 1, 2))
    followed.on_lost(UNAVAILABLE, 1000.0)
    sequences(followed, opened(), sign)
    assert followed.on_lost(UNAVAILABLE, 1400.0) > 0


def test_a_stream_is_silent_after_two_and_a_half_of_the_servers_heartbeats() -> None:
    followed = resume()
    assert followed.read_timeout_s(0.0) == 30.0
    sequences(followed, opened(heartbeat_s=2))
    assert followed.read_timeout_s(0.0) == 5.0
    followed.on_attempt(1.0)
    assert followed.read_timeout_s(1.0) == 30.0


def test_a_deadline_bounds_reads_and_pauses() -> None:
    followed = resume(deadline_s=4.0)
    sequences(followed, opened())
    assert followed.read_timeout_s(1.0) == 3.0
    error = UnavailableError("later", code=grpc.StatusCode.UNAVAILABLE, retry_after_s=10)
    assert followed.on_lost(error, 1.0) == 3.0
    with pytest.raises(DeadlineExceededError):
        followed.read_timeout_s(4.0)
    with pytest.raises(DeadlineExceededError):
        followed.on_lost(UNAVAILABLE, 4.0)


# many executions


def feed() -> FeedResume:
    followed = FeedResume(Backoff(ReconnectPolicy(), upper), cursor="c0")
    followed.on_attempt(0.0)
    return followed


def message(cursor: str, *sequences: int) -> execution_service_pb2.WatchExecutionsResponse:
    response = execution_service_pb2.WatchExecutionsResponse(cursor=cursor)
    for sequence in sequences:
        response.events.add(sequence=sequence)
    return response


def test_a_feed_resumes_from_the_last_cursor() -> None:
    followed = feed()
    assert [event.sequence for event in followed.on_message(message("c1", 4, 9))] == [4, 9]
    assert followed.on_message(message("c2")) == []
    assert followed.on_message(message("")) == []
    assert followed.cursor == "c2"


def test_a_feed_is_silent_after_two_and_a_half_heartbeats() -> None:
    followed = feed()
    assert followed.read_timeout_s(0.0) == 30.0
    followed.on_message(message("c1"))
    assert followed.read_timeout_s(0.0) == 37.5


def test_a_feed_goes_on_after_a_resumable_end_only() -> None:
    followed = feed()
    response = message("c1")
    response.end.CopyFrom(END(reason=END.REASON_SERVER_DRAINING, resumable=True))
    with pytest.raises(UnavailableError) as caught:
        followed.on_message(response)
    assert followed.on_lost(caught.value, 0.0) == 0.1
    response.end.resumable = False
    with pytest.raises(InternalError) as final:
        followed.on_message(response)
    with pytest.raises(InternalError):
        followed.on_lost(final.value, 0.0)
