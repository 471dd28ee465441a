"""What a workflow is: the one definition that the proto, JSON, YAML and builder forms all convert to."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

ERROR_ROUTE = "error"
"""The route of a connection that is taken when its source fails for good."""


class Durability(enum.StrEnum):
    """When a step's completion is durable. The looser ones trade repeated work after a crash for fewer commits."""

    EVERY_STEP = "every_step"
    EVERY_N_STEPS = "every_n_steps"
    STAGE_BOUNDARIES = "stage_boundaries"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`max_attempts` counts failures, the first attempt included. Error types are class names or reasons.

    `max_interval_s` is the longest pause, and no shorter than the first, `initial_interval_s`.
    """

    max_attempts: int = 1
    initial_interval_s: float = 1.0
    backoff: float = 2.0
    max_interval_s: float = 60.0
    jitter: float = 0.1
    retry_on: tuple[str, ...] = ()
    never_retry_on: tuple[str, ...] = ()


NO_RETRY = RetryPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimeout:
    attempt_s: float = 300.0
    total_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node. `config` and `inputs` are JSON objects and may hold templates."""

    name: str
    type: str
    config: Mapping[str, object] = field(default_factory=dict)
    inputs: Mapping[str, object] = field(default_factory=dict)
    required_resources: tuple[str, ...] = ()
    credentials_ref: str = ""
    retry: RetryPolicy | None = None
    timeout: StepTimeout = StepTimeout()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An edge. With neither `from_output` nor `to_input` it forwards the whole scope."""

    from_step: str
    to_step: str
    from_output: str = ""
    to_input: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    name: str
    steps: tuple[Step, ...]
    connections: tuple[Connection, ...] = ()
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    retry: RetryPolicy = NO_RETRY
    durability: Durability = Durability.EVERY_STEP
    durability_steps: int = 1
