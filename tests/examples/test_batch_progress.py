from __future__ import annotations

from pathlib import Path

import torana
from docs.reader import on_a_terminal
from examples.running import EXAMPLES
from integration.cli.servers import TIMEOUT_S, TORANA, environment, serving

EXAMPLE = str(EXAMPLES / "batch_progress/import.yaml")


def test_on_a_terminal_the_rows_done_are_shown_beside_a_bar(tmp_path: Path) -> None:
    parameters = ["-p", "rows=1000", "-p", "batch_size=250", "-p", "pause=0.15"]
    shown = on_a_terminal([*TORANA, "run", EXAMPLE, *parameters], tmp_path, environment(TERM="xterm", COLUMNS="80"))
    for done in ("250 of 1,000 rows, 2", "750 of 1,000 rows, 7", "990 rows imported, 10 rejected"):
        assert done in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_job_that_was_killed_goes_on_with_the_batch_it_was_at(tmp_path: Path) -> None:
    request = {"rows": 1_000, "batch_size": 100, "pause": 0.05}
    with (
        serving(tmp_path, "--workflows", str(EXAMPLES / "batch_progress")) as server,
        torana.BlockingClient(server.address) as client,
        client.execute("import_rows", request, idempotency_key="import") as stream,
    ):
        for event in stream:
            if event.kind == "step_checkpointed" and event.data["value"][0] == 300:
                break
        server.process.kill()
        server.process.wait(TIMEOUT_S)
    with (
        serving(tmp_path, "--workflows", str(EXAMPLES / "batch_progress")) as server,
        torana.BlockingClient(server.address) as client,
        client.execute("import_rows", request, idempotency_key="import") as stream,
    ):
        saved = [event.data["value"][0] for event in stream if event.kind == "step_checkpointed"]
        result = stream.result()
    assert saved == list(range(100, 1_001, 100)), "no batch was done twice"
    assert result.result["report"] == "990 rows imported, 10 rejected"
