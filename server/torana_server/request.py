"""What embedding code hands to `Gateway.execute_workflow`, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torana_server.execution import ExecutionError
from torana_server.resources import ResourceReference


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRequest:
    """`resources` maps a name to a reference, the same as a plain dict, or "@name" for a shared resource.

    `timeout` is in seconds. Values are what JSON holds, and datetime, date, time, timedelta, Decimal, UUID, bytes,
    tuples and sets.
    """

    parameters: Mapping[str, object] = field(default_factory=dict)
    resources: Mapping[str, ResourceReference | Mapping[str, object] | str] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)
    revision: str = ""
    idempotency_key: str = ""
    timeout: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResponse:
    """`result` maps each step that completed to its output, also when the execution failed."""

    execution_id: str
    status: Literal["completed", "failed", "cancelled"]
    result: dict[str, object]
    error: ExecutionError | None = None
