"""Tests of workflows: a gateway in memory, resources that behave, time that jumps, and what happened in words.

Needs the extra `testing`: `pip install "torana-server[testing]"`. The fixtures for pytest are in `torana_pytest`.
"""

from torana_server.testing.cache import FakeCache
from torana_server.testing.database import FakeDatabase, Query, UnknownQueryError
from torana_server.testing.disk import MemoryDisk
from torana_server.testing.gateway import MemoryGateway
from torana_server.testing.http import FakeHttpApi, HttpRequest, Reply
from torana_server.testing.recording import LogLine, Progress, Recording
from torana_server.testing.records import FakeRecord
from torana_server.testing.steps import StepRun, run_step
from torana_server.testing.survival import Survival, assert_survives_restart
from torana_server.testing.virtual_time import StuckError, VirtualClock, run_in_virtual_time, virtual_time

__all__ = [
    "FakeCache",
    "FakeDatabase",
    "FakeHttpApi",
    "FakeRecord",
    "HttpRequest",
    "LogLine",
    "MemoryDisk",
    "MemoryGateway",
    "Progress",
    "Query",
    "Recording",
    "Reply",
    "StepRun",
    "StuckError",
    "Survival",
    "UnknownQueryError",
    "VirtualClock",
    "assert_survives_restart",
    "run_in_virtual_time",
    "run_step",
    "virtual_time",
]
