from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import ServerProcess, running_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server("served.effects", tmp_path / "data") as server:
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
