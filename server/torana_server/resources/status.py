"""What lists and checks say of a resource."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from torana_server.core.clock import Micros


class ResourceState(enum.StrEnum):
    """IDLE: registered, no pool open. DRAINING: takes no new leases and closes with the last one."""

    IDLE = "IDLE"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatus:
    """A shared name, a live pool, or both. Holds no credentials.

    `name` is the shared name, or "pool-" and a digest. `leases` are those of the asking tenant. `check_latency_s` and
    `check_time` are None before the first check; `last_error` is empty when the last check passed. `pool` are numbers
    the type reports. `reserved`: registered by the operator, a request cannot take the name.
    """

    name: str
    type: str
    description: str
    state: ResourceState
    leases: int = 0
    check_latency_s: float | None = None
    check_time: Micros | None = None
    last_error: str = ""
    pool: Mapping[str, int] = field(default_factory=dict)
    credentials_ref: str = ""
    reserved: bool = False
