"""Definitions, validation, plans and data flow. Pure."""

from torana_server.workflow.definition import (
    ERROR_ROUTE,
    NO_RETRY,
    Connection,
    Definition,
    Durability,
    RetryPolicy,
    Step,
    StepTimeout,
)
from torana_server.workflow.ports import StepCatalog, StepSpec

__all__ = [
    "ERROR_ROUTE",
    "NO_RETRY",
    "Connection",
    "Definition",
    "Durability",
    "RetryPolicy",
    "Step",
    "StepCatalog",
    "StepSpec",
    "StepTimeout",
]
