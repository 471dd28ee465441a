"""One server for all commands of a test session's worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.cli.servers import RunningServer, serving, write_workflows


@pytest.fixture(scope="package")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, "--workflows", str(write_workflows(folder / "workflows"))) as server:
        yield server
