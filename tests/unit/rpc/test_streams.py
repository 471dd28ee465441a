from __future__ import annotations

import pytest

from torana_server.core.errors import ExhaustedError, Reason, UnavailableError
from torana_server.rpc.streams import OpenStreams


class Watching:
    stopped = False

    def stop(self) -> None:
        self.stopped = True


def test_places_are_counted_bounded_and_given_back() -> None:
    streams = OpenStreams(1)
    with streams.place():
        assert len(streams) == 1
        with pytest.raises(ExhaustedError) as refused, streams.place():
            pass
        assert refused.value.reason is Reason.TOO_MANY_STREAMS
    assert len(streams) == 0


def test_a_stream_that_fails_gives_its_place_back() -> None:
    streams = OpenStreams(1)
    with pytest.raises(KeyError), streams.place():
        raise KeyError
    assert len(streams) == 0


def test_draining_stops_those_who_watch_now_and_those_who_begin_meanwhile() -> None:
    streams, before, gone, meanwhile = OpenStreams(9), Watching(), Watching(), Watching()
    with streams.place(), streams.holding(before):
        with streams.holding(gone):
            pass
        streams.drain()
        with streams.holding(meanwhile):
            pass
    assert (before.stopped, gone.stopped, meanwhile.stopped) == (True, False, True)


def test_nothing_new_begins_once_draining() -> None:
    streams = OpenStreams(9)
    streams.drain()
    with pytest.raises(UnavailableError) as refused, streams.place():
        pass
    assert refused.value.reason is Reason.SERVER_DRAINING
    assert refused.value.retry_after_s
