"""The streaming contract, over the wire."""

from __future__ import annotations

from integration.rpc.parts import Parts
from torana.v1 import stream_pb2


async def test_execute_streams_opened_every_event_and_the_end(parts: Parts) -> None:
    frames = await parts.run("adds", parameters={"json": '{"number": 20}'})
    assert [frame.WhichOneof("kind") for frame in (frames[0], frames[-1])] == ["opened", "end"]
    events = [event for frame in frames for event in frame.batch.events]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.WhichOneof("kind") for event in events if event.step] == ["step_started", "step_completed"] * 2
    assert events[-1].WhichOneof("kind") == "completed"
    assert frames[-1].end.reason == stream_pb2.StreamEnd.REASON_EXECUTION_FINISHED
    assert not frames[-1].end.resumable
