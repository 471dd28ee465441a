"""Torana: durable workflows over named, pooled resources, streamed over gRPC.

This is the embedding surface: a server inside a Python program.
"""

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
