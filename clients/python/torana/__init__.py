"""Client for Torana: durable workflows over gRPC, streamed.

    async with torana.Client("localhost:7233") as client:
        result = await client.execute_workflow("user_etl", {"day": "2026-01-15"})
        print(result.raise_for_status().result["load"])

`torana.errors` holds every error; `torana.v1` the generated messages underneath.
"""

from torana import errors
from torana._async import Client
from torana._async_stream import ExecutionFeed, ExecutionStream
from torana._blocking import BlockingClient
from torana._blocking_stream import BlockingExecutionFeed, BlockingExecutionStream
from torana._connection import TlsConfig
from torana._references import Binding, ResourceReference, cache, database, http_client
from torana._requests import RequestOptions
from torana._resume import ReconnectPolicy
from torana._types import (
    BlobReference,
    ComponentHealth,
    Event,
    Execution,
    ExecutionError,
    ExecutionResult,
    KeyRotation,
    Resource,
    ResourceType,
    Secret,
    SecretVersion,
    ServerHealth,
    ServerInfo,
    ServerStats,
    StepStatus,
    StepType,
    Workflow,
    WorkflowProblem,
    WorkflowValidation,
)
from torana.errors import ToranaError, WorkflowFailedError

__all__ = [
    "Binding",
    "BlobReference",
    "BlockingClient",
    "BlockingExecutionFeed",
    "BlockingExecutionStream",
    "Client",
    "ComponentHealth",
    "Event",
    "Execution",
    "ExecutionError",
    "ExecutionFeed",
    "ExecutionResult",
    "ExecutionStream",
    "KeyRotation",
    "ReconnectPolicy",
    "RequestOptions",
    "Resource",
    "ResourceReference",
    "ResourceType",
    "Secret",
    "SecretVersion",
    "ServerHealth",
    "ServerInfo",
    "ServerStats",
    "StepStatus",
    "StepType",
    "TlsConfig",
    "ToranaError",
    "Workflow",
    "WorkflowFailedError",
    "WorkflowProblem",
    "WorkflowValidation",
    "cache",
    "database",
    "errors",
    "http_client",
]
