"""Bounds of pools and shared names. The composition root fills it from the server's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSettings:
    """Every value is positive; durations are in seconds."""

    idle_timeout_s: float = 300.0
    """An open pool that nobody has leased for this long is closed."""
    open_timeout_s: float = 15.0
    """Opening a pool may take this long, whatever its own timeouts say."""
    close_timeout_s: float = 10.0
    """Closing a pool, or returning a lease, is given up after this long."""
    health_check_interval_s: float = 30.0
    """Between two checks of a live pool, unless its reference says otherwise."""
    health_check_timeout_s: float = 5.0
    failure_memory_s: float = 1.0
    """After a failed opening, leases fail at once for this long; doubles with each further failure."""
    failure_memory_max_s: float = 15.0
    sweep_interval_s: float = 1.0
    """How often idle pools and due checks are looked for."""
    pools_per_tenant_max: int = 200
    names_per_tenant_max: int = 1_000
    """Names that requests may register with `register_as`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} must be a positive number, not {value!r}")
