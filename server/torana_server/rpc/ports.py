"""What the face is put in front of."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torana_server.core.clock import Clock, Micros
from torana_server.execution import Engine
from torana_server.resources import Resources, ResourceTypes
from torana_server.steps import StepTypes
from torana_server.vault import SecretManager
from torana_server.workflow import WorkflowRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """`limits` and `features` are those of `torana.v1.GetInfoResponse`."""

    version: str
    title: str
    description: str
    server_id: str
    start_time: Micros
    journal: str
    durable: bool
    limits: Mapping[str, int]
    features: Sequence[str]


class HealthStatus(enum.StrEnum):
    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    UNHEALTHY = "UNHEALTHY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentHealth:
    """`latency_s` is that of the last check; None before the first, as is `since`. `last_error` is safe to show."""

    name: str
    status: HealthStatus
    latency_s: float | None = None
    last_error: str = ""
    since: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """`status` is the worst of what the server cannot do without."""

    status: HealthStatus
    components: Sequence[ComponentHealth]
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """`values` by name; counters count since `since`."""

    values: Mapping[str, int]
    since: Micros


class System(Protocol):
    """The server as a whole."""

    def info(self) -> ServerInfo: ...

    async def health(self) -> ServerHealth:
        """Component by component, as last seen: nothing is checked anew."""

    async def stats(self) -> ServerStats:
        """Everything but the calls of this face, which it counts itself. Raises UnavailableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """Everything that the services answer from."""

    engine: Engine
    workflows: WorkflowRegistry
    step_types: StepTypes
    resources: Resources
    resource_types: ResourceTypes
    secrets: SecretManager
    system: System
    clock: Clock
