from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from torana_server import Event, ExecutionError, WorkflowResponse
from torana_server.testing import LogLine, Progress, Recording

START = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = ExecutionError(type="ConnectionError", message="refused", reason="STEP_FAILED", step="load", attempt=2)

HISTORY: list[tuple[float, str, str, int, dict[str, Any]]] = [
    (0, "accepted", "", 0, {}),
    (0, "started", "", 0, {}),
    (0, "step_started", "extract", 1, {}),
    (1, "step_progress", "extract", 1, {"fraction": 0.5, "message": "half", "data": {"rows": 5}}),
    (1, "step_log", "extract", 1, {"level": "warning", "message": "slow"}),
    (1, "step_log", "extract", 1, {"level": "debug", "message": "detail"}),
    (2, "step_emitted", "extract", 1, {"topic": "row", "value": {"id": 1}}),
    (2, "step_completed", "extract", 1, {"output": {"rows": 9}}),
    (2, "step_started", "load", 1, {}),
    (3, "step_retrying", "load", 1, {"error": ERROR, "next_attempt_time": START + timedelta(seconds=63)}),
    (63, "step_started", "load", 2, {}),
    (64, "step_failed", "load", 2, {"error": ERROR}),
    (64, "failed", "", 0, {"error": ERROR}),
]


def recording(status: Any = "failed", error: ExecutionError | None = ERROR) -> Recording:
    events = tuple(
        Event(
            execution="e",
            sequence=number,
            time=START + timedelta(seconds=at),
            kind=kind,
            step=step,
            attempt=attempt,
            data=data,
        )
        for number, (at, kind, step, attempt, data) in enumerate(HISTORY, start=1)
    )
    response = WorkflowResponse(execution_id="e", status=status, result={"extract": {"rows": 9}}, error=error)
    return Recording("etl", response, events)


def test_it_answers_what_happened() -> None:
    run = recording()
    assert (run.execution_id, run.status, run.result, run.error) == ("e", "failed", {"extract": {"rows": 9}}, ERROR)
    assert (run.attempts("load"), run.attempts("extract"), run.attempts("other")) == (2, 1, 0)
    assert run.retries("load") == [60.0]
    assert run.emitted("row") == [{"id": 1}]
    assert run.emitted("row", "load") == []
    assert run.progress("extract") == [Progress(0.5, "half", {"rows": 5})]
    assert run.logs() == [LogLine("extract", "warning", "slow"), LogLine("extract", "debug", "detail")]
    assert run.logs(level="INFO") == [LogLine("extract", "warning", "slow")]
    assert run.duration_s == 64.0


def test_what_is_so_can_be_said_in_one_chain() -> None:
    run = recording()
    run.assert_failed(step="load", type="ConnectionError", match="refu").assert_attempts(extract=1, load=2)
    run.assert_failed(type="STEP_FAILED")
    run.assert_happened("extract completed", "load retrying", "failed").assert_never("load completed", "cancelled")
    run.assert_step_order("extract", "load")
    recording("completed", None).assert_completed(extract={"rows": 9})
    recording("cancelled", None).assert_cancelled()


@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        (lambda run: run.assert_completed(), "should have completed, but failed: load: ConnectionError: refused"),
        (lambda run: run.assert_cancelled(), "should have been cancelled, but failed"),
        (lambda run: run.assert_failed(step="extract"), "should have failed at step 'extract', but at 'load'"),
        (lambda run: run.assert_failed(type="KeyError"), "should have failed with KeyError, but with ConnectionError"),
        (lambda run: run.assert_failed(match="gone"), "with a message that matches 'gone'"),
        (lambda run: run.assert_happened("load started", "extract started"), "'extract started' should have happened "),
        (lambda run: run.assert_never("load retrying"), "'load retrying' should not have happened"),
        (lambda run: run.assert_step_order("load", "extract"), "'load completed' should have happened"),
        (lambda run: run.assert_attempts(load=3), "step 'load' should have started 3 times, not 2 times"),
        (lambda run: run.assert_attempts(other=1), "step 'other' should have started once, not 0 times"),
    ],
)
def test_what_is_not_so_is_told_with_a_table_of_all_events(
    claim: Callable[[Recording], object], complaint: str
) -> None:
    run = recording()
    with pytest.raises(AssertionError) as caught:
        claim(run)
    message = str(caught.value)
    assert message.startswith("workflow 'etl': ")
    assert complaint in message
    assert run.table() in message


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ({"load": 1}, "step 'load' has no output; those that have: 'extract'"),
        ({"extract": 1}, "step 'extract' should have the output 1, not {'rows': 9}"),
    ],
)
def test_an_output_that_differs_is_told(outputs: dict[str, object], complaint: str) -> None:
    with pytest.raises(AssertionError) as caught:
        recording("completed", None).assert_completed(**outputs)
    assert complaint in str(caught.value)


def test_a_run_that_completed_did_not_fail() -> None:
    with pytest.raises(AssertionError, match="should have failed, but completed"):
        recording("completed", None).assert_failed()


def test_the_table_is_read_by_people() -> None:
    assert recording().table().splitlines() == [
        "seq  time      event              attempt  detail",
        "1    +0.000s   accepted",
        "2    +0.000s   started",
        "3    +0.000s   extract started    1",
        "4    +1.000s   extract progress   1        50% half",
        "5    +1.000s   extract log        1        warning: slow",
        "6    +1.000s   extract log        1        debug: detail",
        "7    +2.000s   extract emitted    1        row: {'id': 1}",
        "8    +2.000s   extract completed  1        {'rows': 9}",
        "9    +2.000s   load started       1",
        "10   +3.000s   load retrying      1        in 60 s: ConnectionError: refused",
        "11   +63.000s  load started       2",
        "12   +64.000s  load failed        2        ConnectionError: refused",
        "13   +64.000s  failed                      ConnectionError: refused",
    ]
