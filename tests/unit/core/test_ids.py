"""Ids are UUIDv7 that rise, whatever the clock does."""

from __future__ import annotations

import threading
import uuid

from torana_server.core.ids import RisingIds, is_id, new_id

MS = 0x0190_1234_5678


def ids_at(*milliseconds: int) -> list[str]:
    moments = iter(milliseconds)
    ids = RisingIds(lambda: next(moments))
    return [ids.next() for _ in milliseconds]


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    (made,) = ids_at(MS)
    assert is_id(made)
    assert uuid.UUID(made).version == 7
    assert uuid.UUID(made).variant == uuid.RFC_4122
    assert uuid.UUID(made).int >> 80 == MS


def test_ids_of_one_millisecond_rise() -> None:
    made = ids_at(*[MS] * 10_000)
    assert made == sorted(set(made))
    assert all(map(is_id, made))


def test_ids_rise_while_the_clock_is_set_back() -> None:
    made = ids_at(MS, MS - 5_000, MS - 4_999, MS + 1)
    assert made == sorted(set(made))
    assert uuid.UUID(made[-1]).int >> 80 == MS + 1


def test_ids_that_differ_in_their_millisecond_share_nothing_else() -> None:
    first, second = ids_at(MS, MS + 1)
    assert first[14:] != second[14:]


def test_a_full_millisecond_runs_over_into_the_next() -> None:
    ids = RisingIds(lambda: MS)
    ids._last = (MS + 1 << 74) - 1
    made = ids.next()
    assert is_id(made)
    assert uuid.UUID(made).int >> 80 == MS + 1


def test_threads_never_get_one_id_twice() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(new_id() for _ in range(2_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000
