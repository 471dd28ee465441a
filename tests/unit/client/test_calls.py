"""Single-answer calls of both clients."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

import torana
from torana import Execution, SecretVersion, errors
from torana.v1 import execution_pb2, resource_pb2, secret_service_pb2, workflow_pb2, workflow_service_pb2
from torana.v1 import execution_service_pb2 as execution_service
from torana.v1 import resource_service_pb2 as resource_service
from torana.v1 import system_service_pb2 as system_service
from unit.client.runs import Run, run, server
from unit.client.scripted_server import METHODS, Abort, ScriptedServer

__all__ = ["run", "server"]  # fixtures

EXECUTION = execution_pb2.Execution(id="e-1", workflow="etl", state=execution_pb2.EXECUTION_STATE_RUNNING)
RESOURCE = resource_pb2.Resource(name="main_db", state=resource_pb2.RESOURCE_STATE_HEALTHY, pool={"size": 5})
RESOURCE.check_latency.FromMilliseconds(3)
SECRET = secret_service_pb2.Secret(name="db_creds", version=2)

Case = tuple[str, Callable[[Any], Any], Message, dict[str, Any], Callable[[Any], Any], Any]
"""RPC, call, answer, fields of the request, what to look at in the result, and what it must be."""

CASES: list[Case] = [
    (
        "StartExecution",
        lambda client: client.start_workflow("etl", {"n": 1}, idempotency_key="k"),
        execution_service.StartExecutionResponse(execution=EXECUTION),
        {"request.workflow": "etl", "request.idempotency_key": "k", "request.parameters.json": '{"n":1}'},
        lambda found: (found.id, found.state),
        ("e-1", "running"),
    ),
    (
        "GetExecution",
        lambda client: client.get_execution("e-1"),
        execution_service.GetExecutionResponse(execution=EXECUTION),
        {"execution": "e-1"},
        lambda found: found.workflow,
        "etl",
    ),
    (
        "CancelExecution",
        lambda client: client.cancel_execution("e-1", "enough"),
        execution_service.CancelExecutionResponse(execution=EXECUTION),
        {"execution": "e-1", "reason": "enough"},
        lambda found: found.id,
        "e-1",
    ),
    (
        "RetryExecution",
        lambda client: client.retry_execution("e-0", idempotency_key="again"),
        execution_service.RetryExecutionResponse(execution=EXECUTION),
        {"execution": "e-0", "idempotency_key": "again"},
        lambda found: found.id,
        "e-1",
    ),
    (
        "GetWorkflow",
        lambda client: client.get_workflow("etl", "r1"),
        workflow_service_pb2.GetWorkflowResponse(
            workflow=workflow_pb2.Workflow(name="etl", definition=workflow_pb2.WorkflowDefinition(name="etl"))
        ),
        {"name": "etl", "revision": "r1"},
        lambda found: found.definition["name"],
        "etl",
    ),
    (
        "ValidateWorkflow",
        lambda client: client.validate_workflow({"name": "etl", "steps": [{"name": "load", "type": "cod"}]}),
        workflow_service_pb2.ValidateWorkflowResponse(
            problems=[workflow_service_pb2.WorkflowProblem(path="steps[0].type", message="unknown")]
        ),
        {"definition.name": "etl"},
        lambda found: (found.is_valid, str(found.problems[0].path)),
        (False, "steps[0].type"),
    ),
    (
        "GetStepType",
        lambda client: client.get_step_type("code"),
        workflow_service_pb2.GetStepTypeResponse(step_type=workflow_pb2.StepType(name="code", config_schema="{}")),
        {"name": "code"},
        lambda found: found.config_schema,
        "{}",
    ),
    (
        "GetResource",
        lambda client: client.get_resource("main_db"),
        resource_service.GetResourceResponse(resource=RESOURCE),
        {"name": "main_db"},
        lambda found: (found.state, found.pool, found.check_latency),
        ("healthy", {"size": 5}, timedelta(milliseconds=3)),
    ),
    (
        "CheckResource",
        lambda client: client.check_resource("main_db"),
        resource_service.CheckResourceResponse(resource=RESOURCE),
        {"name": "main_db"},
        lambda found: found.name,
        "main_db",
    ),
    (
        "DrainResource",
        lambda client: client.drain_resource("main_db"),
        resource_service.DrainResourceResponse(resource=RESOURCE),
        {"name": "main_db"},
        lambda found: found.name,
        "main_db",
    ),
    (
        "PutSecret",
        lambda client: client.put_secret("db_creds", {"user": "app", "password": "x"}),
        secret_service_pb2.PutSecretResponse(secret=SECRET),
        {"name": "db_creds", "value.json": '{"user":"app","password":"x"}'},
        lambda found: found.version,
        2,
    ),
    (
        "GetSecret",
        lambda client: client.get_secret("db_creds"),
        secret_service_pb2.GetSecretResponse(secret=SECRET),
        {"name": "db_creds"},
        lambda found: (found.name, found.create_time),
        ("db_creds", None),
    ),
    (
        "DeleteSecret",
        lambda client: client.delete_secret("db_creds"),
        secret_service_pb2.DeleteSecretResponse(),
        {"name": "db_creds"},
        lambda found: found,
        None,
    ),
    (
        "RotateKeys",
        lambda client: client.rotate_keys(),
        secret_service_pb2.RotateKeysResponse(rewrapped=3, primary_key_id="k2"),
        {},
        lambda found: (found.rewrapped, found.primary_key_id),
        (3, "k2"),
    ),
    (
        "GetInfo",
        lambda client: client.get_info(),
        system_service.GetInfoResponse(version="0.1.0", limits={"page_size": 1000}, features=["retry"]),
        {},
        lambda found: (found.version, found.limits, found.features),
        ("0.1.0", {"page_size": 1000}, ("retry",)),
    ),
    (
        "GetHealth",
        lambda client: client.get_health(),
        system_service.GetHealthResponse(
            status=system_service.HEALTH_STATUS_DEGRADED,
            components=[system_service.ComponentHealth(name="vault", status=system_service.HEALTH_STATUS_UNHEALTHY)],
        ),
        {},
        lambda found: (found.status, found.components[0].status),
        ("degraded", "unhealthy"),
    ),
    (
        "GetStats",
        lambda client: client.get_stats(),
        system_service.GetStatsResponse(values={"executions": 4}),
        {},
        lambda found: found.values,
        {"executions": 4},
    ),
]

LISTS: list[tuple[str, Callable[[Any], Any], Callable[[str, str], Message]]] = [
    (
        "ListExecutions",
        lambda client: client.list_executions("state = FAILED", page_size=1),
        lambda name, token: execution_service.ListExecutionsResponse(
            executions=[execution_pb2.Execution(id=name)], next_page_token=token
        ),
    ),
    (
        "ListWorkflows",
        lambda client: client.list_workflows(page_size=1),
        lambda name, token: workflow_service_pb2.ListWorkflowsResponse(
            workflows=[workflow_pb2.Workflow(name=name)], next_page_token=token
        ),
    ),
    (
        "ListStepTypes",
        lambda client: client.list_step_types(page_size=1),
        lambda name, token: workflow_service_pb2.ListStepTypesResponse(
            step_types=[workflow_pb2.StepType(name=name)], next_page_token=token
        ),
    ),
    (
        "ListResources",
        lambda client: client.list_resources(page_size=1),
        lambda name, token: resource_service.ListResourcesResponse(
            resources=[resource_pb2.Resource(name=name)], next_page_token=token
        ),
    ),
    (
        "ListResourceTypes",
        lambda client: client.list_resource_types(page_size=1),
        lambda name, token: resource_service.ListResourceTypesResponse(
            resource_types=[resource_pb2.ResourceType(name=name)], next_page_token=token
        ),
    ),
    (
        "ListSecrets",
        lambda client: client.list_secrets(page_size=1),
        lambda name, token: secret_service_pb2.ListSecretsResponse(
            secrets=[secret_service_pb2.Secret(name=name)], next_page_token=token
        ),
    ),
    (
        "ListSecretVersions",
        lambda client: client.list_secret_versions("db_creds", page_size=1),
        lambda name, token: secret_service_pb2.ListSecretVersionsResponse(
            versions=[secret_service_pb2.SecretVersion(version=ord(name))], next_page_token=token
        ),
    ),
]


def test_every_rpc_of_the_contract_is_tried_here() -> None:
    unary = {method.name for method in METHODS.values() if not method.server_streaming}
    assert {case[0] for case in CASES} | {case[0] for case in LISTS} == unary


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
async def test_a_call_sends_its_arguments_and_reads_its_answer(server: ScriptedServer, run: Run, case: Case) -> None:
    rpc, call, answer, sent, look, expected = case
    server.answers[rpc] = [answer]
    assert look(await run.call(server, call)) == expected
    [(_, request)] = server.requests
    for path, value in sent.items():
        found = request
        for part in path.split("."):
            found = getattr(found, part)
        assert found == value


def told(item: Any) -> str:
    """What a page of LISTS calls it."""
    match item:
        case Execution():
            return item.id
        case SecretVersion():
            return chr(item.version)
        case _:
            return str(item.name)


@pytest.mark.parametrize(("rpc", "call", "page"), LISTS, ids=[case[0] for case in LISTS])
async def test_a_list_goes_through_all_its_pages(
    server: ScriptedServer, run: Run, rpc: str, call: Callable[[Any], Any], page: Callable[[str, str], Message]
) -> None:
    server.answers[rpc] = [page("a", "t1"), page("b", "")]
    items = await run.call(server, call)
    assert [told(item) for item in items] == ["a", "b"]
    assert [(request.page_token, request.page_size) for _, request in server.requests] == [("", 1), ("t1", 1)]


async def test_a_call_that_fails_raises_its_reason(server: ScriptedServer, run: Run) -> None:
    server.answers["GetWorkflow"] = [Abort(grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")]
    with pytest.raises(errors.WorkflowNotFoundError, match="as scripted"):
        await run.call(server, lambda client: client.get_workflow("etl"))


async def test_a_retry_has_a_key_even_when_none_is_given(server: ScriptedServer, run: Run) -> None:
    server.answers["RetryExecution"] = [execution_service.RetryExecutionResponse(execution=EXECUTION)]
    await run.call(server, lambda client: client.retry_execution("e-0"))
    assert server.requests[0][1].idempotency_key != ""


async def test_metadata_goes_with_every_call_and_stream(server: ScriptedServer, run: Run) -> None:
    server.answers["GetInfo"] = [system_service.GetInfoResponse()]
    server.streams = [[Abort(grpc.StatusCode.UNAUTHENTICATED)]]
    await run.call(server, lambda client: client.get_info(), metadata={"Authorization": "Bearer t"})
    with pytest.raises(errors.UnauthenticatedError):
        await run.events(server, lambda client: client.watch("e-1"), metadata={"Authorization": "Bearer t"})
    assert [metadata["authorization"] for metadata in server.metadata] == ["Bearer t", "Bearer t"]


def test_references_are_made_by_the_client_too() -> None:
    made = torana.Client.database(host="localhost", database="test", credentials_ref="db_creds")
    assert made == torana.BlockingClient.database(host="localhost", database="test", credentials_ref="db_creds")
    assert torana.Client.http_client(base_url="https://api.example.com").type == "http_client"
    assert torana.Client.cache(host="localhost", port=6379).type == "cache"
