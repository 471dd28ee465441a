"""What a caller asks for, as the engine takes it and the journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torana_server.core.values import Payload
from torana_server.resources import Binding

EMPTY_OBJECT = Payload("{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """`parameters` and `context` are JSON objects. Times are in seconds; None means none asked for."""

    workflow: str
    revision: str = ""
    parameters: Payload = EMPTY_OBJECT
    context: Payload = EMPTY_OBJECT
    resources: Mapping[str, Binding] = field(default_factory=dict)
    idempotency_key: str = ""
    timeout_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""
    cancel_on_disconnect: bool = False
    disconnect_grace_s: float = 30.0
