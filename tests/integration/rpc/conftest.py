from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from integration.rpc.parts import Parts, serving


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    async with serving() as running:
        yield running
