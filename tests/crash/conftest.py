from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import stores
from integration.conftest import postgres_server, temporary_root
from servers import ServerProcess, running_server

__all__ = ["postgres_server", "temporary_root"]


@pytest.fixture
def store(request: pytest.FixtureRequest) -> dict[str, object]:
    return stores.settings(request)


@pytest.fixture
def server(tmp_path: Path, store: dict[str, object]) -> Iterator[ServerProcess]:
    with running_server("served.effects", tmp_path / "data", **store) as server:
        yield server


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    """The file in which steps record what they do."""
    return tmp_path / "effects"


@pytest.fixture
def random_numbers() -> random.Random:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)
