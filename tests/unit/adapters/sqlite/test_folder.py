from __future__ import annotations

from torana_server.adapters.sqlite.folder import ROOM_CHECK_INTERVAL_S, Room


class Disk:
    """Free bytes and the time, as the test sets them."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.time = 0.0
        self.asked = 0

    def free_bytes(self) -> int:
        self.asked += 1
        return self.free

    def clock(self) -> float:
        return self.time


def test_there_is_room_while_more_than_the_reserve_is_free() -> None:
    for free, enough in ((101, True), (100, False), (0, False)):
        disk = Disk(free)
        assert Room(disk.free_bytes, 100, disk.clock).enough() is enough


def test_the_disk_is_asked_once_an_interval() -> None:
    disk = Disk(101)
    room = Room(disk.free_bytes, 100, disk.clock)
    assert room.enough()
    disk.free = 0
    disk.time = ROOM_CHECK_INTERVAL_S / 2
    assert room.enough()
    assert disk.asked == 1
    disk.time = ROOM_CHECK_INTERVAL_S
    assert not room.enough()
    disk.free = 101
    disk.time = 2 * ROOM_CHECK_INTERVAL_S
    assert room.enough()
    assert disk.asked == 3
