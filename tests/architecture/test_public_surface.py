"""The names people import are a promise: one that comes or goes changes this file in the same commit."""

from __future__ import annotations

import importlib

import pytest

SURFACES: dict[str, list[str]] = {
    "torana": [
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
    ],
    "torana_server": [
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
    ],
}


@pytest.mark.parametrize("package", sorted(SURFACES))
def test_a_package_exports_exactly_the_promised_names(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(getattr(module, "__all__", [])) == sorted(SURFACES[package])


@pytest.mark.parametrize("package", sorted(SURFACES))
def test_every_promised_name_exists(package: str) -> None:
    module = importlib.import_module(package)
    missing = [name for name in SURFACES[package] if not hasattr(module, name)]
    assert not missing


def test_what_the_embedding_package_imports_late_is_what_it_promises() -> None:
    module = importlib.import_module("torana_server")
    assert sorted(module._HOME_OF) == sorted(SURFACES["torana_server"])
    assert set(SURFACES["torana_server"]) <= set(dir(module))
    with pytest.raises(AttributeError, match="has no attribute 'Gatewy'"):
        _ = module.Gatewy
