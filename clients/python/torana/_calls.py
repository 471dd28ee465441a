"""The single-answer calls: the method, the request, and how the answer reads. The clients only carry them out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from torana import _payload, _types
from torana._native import from_native, to_native
from torana.v1 import execution_pb2, workflow_pb2
from torana.v1 import execution_service_pb2 as execution_service
from torana.v1 import resource_service_pb2 as resource_service
from torana.v1 import secret_service_pb2 as secret_service
from torana.v1 import system_service_pb2 as system_service
from torana.v1 import workflow_service_pb2 as workflow_service

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """`method` is the path of the RPC, `answer` the class of its response."""

    method: str
    request: Message
    response: type[Message]
    read: Callable[[Any], Answer]


Pager = Callable[[str], Call[_types.Page[Answer]]]
"""The call for the page with a token."""


# ExecutionService


def start_execution(request: execution_pb2.WorkflowRequest) -> Call[_types.Execution]:
    return Call(
        "/torana.v1.ExecutionService/StartExecution",
        execution_service.StartExecutionRequest(request=request),
        execution_service.StartExecutionResponse,
        lambda response: to_native(response.execution),
    )


def get_execution(execution_id: str) -> Call[_types.Execution]:
    return Call(
        "/torana.v1.ExecutionService/GetExecution",
        execution_service.GetExecutionRequest(execution=execution_id),
        execution_service.GetExecutionResponse,
        lambda response: to_native(response.execution),
    )


def list_executions(filter: str, page_size: int) -> Pager[_types.Execution]:
    return lambda token: Call(
        "/torana.v1.ExecutionService/ListExecutions",
        execution_service.ListExecutionsRequest(filter=filter, page_size=page_size, page_token=token),
        execution_service.ListExecutionsResponse,
        lambda response: _page(response, response.executions),
    )


def cancel_execution(execution_id: str, reason: str) -> Call[_types.Execution]:
    return Call(
        "/torana.v1.ExecutionService/CancelExecution",
        execution_service.CancelExecutionRequest(execution=execution_id, reason=reason),
        execution_service.CancelExecutionResponse,
        lambda response: to_native(response.execution),
    )


def retry_execution(execution_id: str, idempotency_key: str | None) -> Call[_types.Execution]:
    key = idempotency_key or str(uuid.uuid4())
    return Call(
        "/torana.v1.ExecutionService/RetryExecution",
        execution_service.RetryExecutionRequest(execution=execution_id, idempotency_key=key),
        execution_service.RetryExecutionResponse,
        lambda response: to_native(response.execution),
    )


# WorkflowService


def get_workflow(name: str, revision: str) -> Call[_types.Workflow]:
    return Call(
        "/torana.v1.WorkflowService/GetWorkflow",
        workflow_service.GetWorkflowRequest(name=name, revision=revision),
        workflow_service.GetWorkflowResponse,
        lambda response: to_native(response.workflow),
    )


def list_workflows(page_size: int) -> Pager[_types.Workflow]:
    return lambda token: Call(
        "/torana.v1.WorkflowService/ListWorkflows",
        workflow_service.ListWorkflowsRequest(page_size=page_size, page_token=token),
        workflow_service.ListWorkflowsResponse,
        lambda response: _page(response, response.workflows),
    )


def validate_workflow(definition: Mapping[str, Any]) -> Call[_types.WorkflowValidation]:
    message = from_native(workflow_pb2.WorkflowDefinition, definition, "")
    return Call(
        "/torana.v1.WorkflowService/ValidateWorkflow",
        workflow_service.ValidateWorkflowRequest(definition=message),
        workflow_service.ValidateWorkflowResponse,
        to_native,
    )


def list_step_types(page_size: int) -> Pager[_types.StepType]:
    return lambda token: Call(
        "/torana.v1.WorkflowService/ListStepTypes",
        workflow_service.ListStepTypesRequest(page_size=page_size, page_token=token),
        workflow_service.ListStepTypesResponse,
        lambda response: _page(response, response.step_types),
    )


def get_step_type(name: str) -> Call[_types.StepType]:
    return Call(
        "/torana.v1.WorkflowService/GetStepType",
        workflow_service.GetStepTypeRequest(name=name),
        workflow_service.GetStepTypeResponse,
        lambda response: to_native(response.step_type),
    )


# ResourceService


def list_resources(page_size: int) -> Pager[_types.Resource]:
    return lambda token: Call(
        "/torana.v1.ResourceService/ListResources",
        resource_service.ListResourcesRequest(page_size=page_size, page_token=token),
        resource_service.ListResourcesResponse,
        lambda response: _page(response, response.resources),
    )


def get_resource(name: str) -> Call[_types.Resource]:
    return Call(
        "/torana.v1.ResourceService/GetResource",
        resource_service.GetResourceRequest(name=name),
        resource_service.GetResourceResponse,
        lambda response: to_native(response.resource),
    )


def check_resource(name: str) -> Call[_types.Resource]:
    return Call(
        "/torana.v1.ResourceService/CheckResource",
        resource_service.CheckResourceRequest(name=name),
        resource_service.CheckResourceResponse,
        lambda response: to_native(response.resource),
    )


def drain_resource(name: str) -> Call[_types.Resource]:
    return Call(
        "/torana.v1.ResourceService/DrainResource",
        resource_service.DrainResourceRequest(name=name),
        resource_service.DrainResourceResponse,
        lambda response: to_native(response.resource),
    )


def list_resource_types(page_size: int) -> Pager[_types.ResourceType]:
    return lambda token: Call(
        "/torana.v1.ResourceService/ListResourceTypes",
        resource_service.ListResourceTypesRequest(page_size=page_size, page_token=token),
        resource_service.ListResourceTypesResponse,
        lambda response: _page(response, response.resource_types),
    )


# SecretService


def put_secret(name: str, value: Mapping[str, Any]) -> Call[_types.Secret]:
    return Call(
        "/torana.v1.SecretService/PutSecret",
        secret_service.PutSecretRequest(name=name, value=_payload.encode_object(value, "value")),
        secret_service.PutSecretResponse,
        lambda response: to_native(response.secret),
    )


def get_secret(name: str) -> Call[_types.Secret]:
    return Call(
        "/torana.v1.SecretService/GetSecret",
        secret_service.GetSecretRequest(name=name),
        secret_service.GetSecretResponse,
        lambda response: to_native(response.secret),
    )


def list_secrets(page_size: int) -> Pager[_types.Secret]:
    return lambda token: Call(
        "/torana.v1.SecretService/ListSecrets",
        secret_service.ListSecretsRequest(page_size=page_size, page_token=token),
        secret_service.ListSecretsResponse,
        lambda response: _page(response, response.secrets),
    )


def list_secret_versions(name: str, page_size: int) -> Pager[_types.SecretVersion]:
    return lambda token: Call(
        "/torana.v1.SecretService/ListSecretVersions",
        secret_service.ListSecretVersionsRequest(name=name, page_size=page_size, page_token=token),
        secret_service.ListSecretVersionsResponse,
        lambda response: _page(response, response.versions),
    )


def delete_secret(name: str) -> Call[None]:
    return Call(
        "/torana.v1.SecretService/DeleteSecret",
        secret_service.DeleteSecretRequest(name=name),
        secret_service.DeleteSecretResponse,
        lambda response: None,
    )


def rotate_keys() -> Call[_types.KeyRotation]:
    return Call(
        "/torana.v1.SecretService/RotateKeys",
        secret_service.RotateKeysRequest(),
        secret_service.RotateKeysResponse,
        to_native,
    )


# SystemService


def get_info() -> Call[_types.ServerInfo]:
    return Call(
        "/torana.v1.SystemService/GetInfo",
        system_service.GetInfoRequest(),
        system_service.GetInfoResponse,
        to_native,
    )


def get_health() -> Call[_types.ServerHealth]:
    return Call(
        "/torana.v1.SystemService/GetHealth",
        system_service.GetHealthRequest(),
        system_service.GetHealthResponse,
        to_native,
    )


def get_stats() -> Call[_types.ServerStats]:
    return Call(
        "/torana.v1.SystemService/GetStats",
        system_service.GetStatsRequest(),
        system_service.GetStatsResponse,
        to_native,
    )


def _page(response: Any, items: Any) -> _types.Page[Any]:
    return _types.Page(tuple(to_native(item) for item in items), response.next_page_token)
