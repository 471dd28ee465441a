"""What the Python client promises to keep."""

from __future__ import annotations

import inspect
import subprocess
import sys

import torana

PROMISED = """
Binding BlobReference BlockingClient BlockingExecutionFeed BlockingExecutionStream Client ComponentHealth Event
Execution ExecutionError ExecutionFeed ExecutionResult ExecutionStream KeyRotation ReconnectPolicy RequestOptions
Resource ResourceReference ResourceType Secret SecretVersion ServerHealth ServerInfo ServerStats StepStatus StepType
TlsConfig ToranaError Workflow WorkflowFailedError WorkflowProblem WorkflowValidation cache database errors
http_client
"""


def test_the_public_names_are_those_promised() -> None:
    assert sorted(torana.__all__) == sorted(PROMISED.split())
    assert all(hasattr(torana, name) for name in torana.__all__)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    assert arguments(torana.Client) == arguments(torana.BlockingClient)


def arguments(client: type) -> dict[str, list[str]]:
    return {
        name: [str(parameter) for parameter in inspect.signature(method).parameters.values()]
        for name, method in inspect.getmembers(client, callable)
        if not name.startswith("_") or name == "__init__"
    }


def test_every_error_of_the_tree_is_drawn_at_its_top() -> None:
    drawn = torana.errors.__doc__ or ""
    classes = [kind for _, kind in inspect.getmembers(torana.errors, inspect.isclass) if issubclass(kind, Exception)]
    assert [kind.__name__ for kind in classes if kind.__name__ not in drawn] == []


def test_the_client_needs_neither_the_server_nor_its_libraries() -> None:
    foreign = "{'torana_server', 'grpc_status', 'asyncpg', 'pydantic', 'apsw', 'aiohttp'}"
    program = f"import sys, torana; sys.exit(str({foreign} & set(sys.modules)) if {foreign} & set(sys.modules) else 0)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
