"""The result of an execution, gathered from its events or read from its record."""

from __future__ import annotations

from typing import Any

from torana._types import Event, Execution, ExecutionResult
from torana.errors import ExecutionNotFinishedError


class ResultCollector:
    """Remembers the latest output of each step until the terminal event says which of them count."""

    def __init__(self) -> None:
        self._outputs: dict[str, tuple[int, Any]] = {}
        self._terminal: Event | None = None

    def add(self, event: Event) -> None:
        if event.kind in ("step_completed", "step_reused"):
            self._outputs[event.step] = (event.sequence, event.data["output"])
        elif event.is_terminal:
            self._terminal = event

    def result(self) -> ExecutionResult | None:
        """None when the events seen do not hold all of it: they were filtered, or the stream began later."""
        terminal = self._terminal
        if terminal is None:
            return None
        holders = terminal.data["outputs"]
        if any(self._outputs.get(step, (0, None))[0] != sequence for step, sequence in holders.items()):
            return None
        return ExecutionResult(
            execution_id=terminal.execution,
            status=terminal.kind,
            result={step: self._outputs[step][1] for step in holders},
            error=terminal.data.get("error"),
            event_count=terminal.sequence,
        )


def result_of(execution: Execution) -> ExecutionResult:
    """Raises ExecutionNotFinishedError."""
    if not execution.is_finished:
        message = f"execution {execution.id} is {execution.state}: the stream was closed before it ended"
        raise ExecutionNotFinishedError(message, reason="EXECUTION_NOT_FINISHED")
    return ExecutionResult(
        execution_id=execution.id,
        status=execution.state,
        result=execution.result,
        error=execution.error,
        event_count=execution.latest_sequence,
    )
