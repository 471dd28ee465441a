"""Torana: durable workflows over named, pooled resources, streamed over gRPC.

This is the embedding surface: a server inside a Python program. Each name is imported when it is first asked for, so
that a command which only talks to a server does not load one.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torana_server.access import Principal
    from torana_server.core.errors import (
        ConflictError,
        EventsExpiredError,
        ExecutionNotFoundError,
        ExhaustedError,
        InvalidRequestError,
        InvalidWorkflowError,
        NotFoundError,
        ResourceError,
        ResourceNotBoundError,
        ResourceNotFoundError,
        SecretNotFoundError,
        StateError,
        StepError,
        ToranaError,
        TypeNotFoundError,
        UnavailableError,
        VaultError,
        Violation,
        WorkflowNotFoundError,
    )
    from torana_server.core.logs import LogFilter
    from torana_server.execution import ExecutionError
    from torana_server.gateway import Gateway
    from torana_server.native import Event, Execution
    from torana_server.request import WorkflowRequest, WorkflowResponse
    from torana_server.resources import (
        CacheFactory,
        DatabasePoolFactory,
        HttpClientFactory,
        ResourceReference,
        ResourceRegistry,
        ResourceResolver,
        ResourceType,
        TypeConfig,
    )
    from torana_server.settings import Settings
    from torana_server.steps import StepConfig, StepContext, StepType, get_current_context
    from torana_server.vault import SecretManager
    from torana_server.workflow import Definition, RetryPolicy, StepTimeout, Workflow, WorkflowBuilder

__all__ = [
    "CacheFactory",
    "ConflictError",
    "DatabasePoolFactory",
    "Definition",
    "Event",
    "EventsExpiredError",
    "Execution",
    "ExecutionError",
    "ExecutionNotFoundError",
    "ExhaustedError",
    "Gateway",
    "HttpClientFactory",
    "InvalidRequestError",
    "InvalidWorkflowError",
    "LogFilter",
    "NotFoundError",
    "Principal",
    "ResourceError",
    "ResourceNotBoundError",
    "ResourceNotFoundError",
    "ResourceReference",
    "ResourceRegistry",
    "ResourceResolver",
    "ResourceType",
    "RetryPolicy",
    "SecretManager",
    "SecretNotFoundError",
    "Settings",
    "StateError",
    "StepConfig",
    "StepContext",
    "StepError",
    "StepTimeout",
    "StepType",
    "ToranaError",
    "TypeConfig",
    "TypeNotFoundError",
    "UnavailableError",
    "VaultError",
    "Violation",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowNotFoundError",
    "WorkflowRequest",
    "WorkflowResponse",
    "get_current_context",
]

_HOMES = {
    "access": ("Principal",),
    "core.errors": (
        "ConflictError",
        "EventsExpiredError",
        "ExecutionNotFoundError",
        "ExhaustedError",
        "InvalidRequestError",
        "InvalidWorkflowError",
        "NotFoundError",
        "ResourceError",
        "ResourceNotBoundError",
        "ResourceNotFoundError",
        "SecretNotFoundError",
        "StateError",
        "StepError",
        "ToranaError",
        "TypeNotFoundError",
        "UnavailableError",
        "VaultError",
        "Violation",
        "WorkflowNotFoundError",
    ),
    "core.logs": ("LogFilter",),
    "execution": ("ExecutionError",),
    "gateway": ("Gateway",),
    "native": (
        "Event",
        "Execution",
    ),
    "request": (
        "WorkflowRequest",
        "WorkflowResponse",
    ),
    "resources": (
        "CacheFactory",
        "DatabasePoolFactory",
        "HttpClientFactory",
        "ResourceReference",
        "ResourceRegistry",
        "ResourceResolver",
        "ResourceType",
        "TypeConfig",
    ),
    "settings": ("Settings",),
    "steps": (
        "StepConfig",
        "StepContext",
        "StepType",
        "get_current_context",
    ),
    "vault": ("SecretManager",),
    "workflow": (
        "Definition",
        "RetryPolicy",
        "StepTimeout",
        "Workflow",
        "WorkflowBuilder",
    ),
}
"""The same imports: the names that each module gives."""

if not TYPE_CHECKING:
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
