"""The names that users' tests import are a promise: one that comes or goes changes this file in the same commit."""

from __future__ import annotations

from torana_server import testing

NAMES = [
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


def test_the_toolkit_exports_exactly_the_promised_names() -> None:
    assert sorted(testing.__all__) == NAMES
    assert [name for name in NAMES if not hasattr(testing, name)] == []


def test_no_name_looks_like_a_test_to_pytest() -> None:
    assert [name for name in NAMES if name.lower().startswith("test")] == []
