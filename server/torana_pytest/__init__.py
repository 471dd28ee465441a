"""Fixtures for tests of workflows, in every project that has Torana installed.

pytest imports this module at its start, so it stands outside `torana_server` and imports that only when a test asks for
a fixture: being installed costs nothing. The fixtures need the extra `testing`.
"""

# ruff: noqa: PLC0415 — imports stand in the fixtures, for the reason above

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

try:
    import pytest_asyncio
except ImportError:
    # Without it no test can use the fixtures; the others must go on.
    _asynchronous: Callable[..., Any] = pytest.fixture
else:
    _asynchronous = pytest_asyncio.fixture

if TYPE_CHECKING:
    from torana_server.testing import FakeCache, FakeDatabase, FakeHttpApi, MemoryGateway, VirtualClock


@pytest.fixture
def _torana_time(request: pytest.FixtureRequest) -> None:
    """Time is virtual before anything else of Torana starts, whatever the order of a test's arguments."""
    if "torana_clock" in request.fixturenames:
        request.getfixturevalue("torana_clock")


@_asynchronous
async def torana_gateway(_torana_time: None) -> AsyncIterator[MemoryGateway]:
    """A gateway in memory, started. `torana_gateway.bind(name, fake)` gives it resources."""
    from torana_server.testing import MemoryGateway

    async with MemoryGateway() as gateway:
        yield gateway


@_asynchronous
async def torana_client(torana_gateway: MemoryGateway) -> AsyncIterator[Any]:
    """A `torana.Client` of `torana_gateway`, over gRPC."""
    async with torana_gateway.client() as client:
        yield client


@pytest.fixture
def torana_database() -> FakeDatabase:
    """A fake database, not yet bound to a name."""
    from torana_server.testing import FakeDatabase

    return FakeDatabase()


@_asynchronous
async def torana_cache(_torana_time: None) -> AsyncIterator[FakeCache]:
    """A fake cache, not yet bound to a name."""
    from torana_server.testing import FakeCache

    async with FakeCache() as cache:
        yield cache


@_asynchronous
async def torana_http(_torana_time: None) -> AsyncIterator[FakeHttpApi]:
    """A fake HTTP API that listens, not yet bound to a name."""
    from torana_server.testing import FakeHttpApi

    async with FakeHttpApi() as api:
        yield api


@_asynchronous
async def torana_clock() -> AsyncIterator[VirtualClock]:
    """Makes the time of the test virtual."""
    from torana_server.testing import virtual_time

    async with virtual_time() as clock:
        yield clock
