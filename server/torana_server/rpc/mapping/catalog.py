"""Workflows, step types, resources, secrets and the server itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from torana.v1 import (
    payload_pb2,
    resource_pb2,
    secret_service_pb2,
    system_service_pb2,
    workflow_pb2,
    workflow_service_pb2,
)
from torana_server.adapters.wire.messages import dict_to_struct, duration, payload_from_message, timestamp
from torana_server.core.clock import Micros
from torana_server.core.errors import ToranaError, Violation
from torana_server.core.values import parse
from torana_server.resources import ResourceState, ResourceStatus, ResourceType
from torana_server.rpc.checks import Checks
from torana_server.rpc.mapping.definition import definition_to_message
from torana_server.rpc.ports import ComponentHealth, HealthStatus, ServerHealth, ServerInfo, ServerStats
from torana_server.steps import StepType
from torana_server.vault import SecretInfo, VersionInfo
from torana_server.workflow import RegisteredWorkflow

_RESOURCE_STATES: Final = {
    state: resource_pb2.ResourceState.Value(f"RESOURCE_STATE_{state}") for state in ResourceState
}
_HEALTH: Final = {status: system_service_pb2.HealthStatus.Value(f"HEALTH_STATUS_{status}") for status in HealthStatus}


def workflow_to_message(workflow: RegisteredWorkflow, *, with_definition: bool) -> workflow_pb2.Workflow:
    return workflow_pb2.Workflow(
        name=workflow.definition.name,
        revision=workflow.revision,
        definition=definition_to_message(workflow.definition) if with_definition else None,
        required_resources=workflow.required_resources,
        create_time=timestamp(workflow.create_time),
        description=workflow.description or workflow.definition.description,
        metadata=dict_to_struct(workflow.metadata) if workflow.metadata else None,
    )


def problem_to_message(violation: Violation) -> workflow_service_pb2.WorkflowProblem:
    return workflow_service_pb2.WorkflowProblem(path=violation.path, message=violation.message)


def step_type_to_message(step_type: StepType[Any]) -> workflow_pb2.StepType:
    return workflow_pb2.StepType(
        name=step_type.name,
        description=step_type.description,
        config_schema=_schema_text(step_type.config_schema()),
    )


def resource_to_message(status: ResourceStatus) -> resource_pb2.Resource:
    return resource_pb2.Resource(
        name=status.name,
        type=status.type,
        description=status.description,
        state=_RESOURCE_STATES[status.state],
        leases=status.leases,
        check_latency=None if status.check_latency_s is None else duration(status.check_latency_s),
        check_time=None if status.check_time is None else timestamp(status.check_time),
        last_error=status.last_error,
        pool=status.pool,
        credentials_ref=status.credentials_ref,
        reserved=status.reserved,
    )


def resource_type_to_message(resource_type: ResourceType[Any, Any]) -> resource_pb2.ResourceType:
    return resource_pb2.ResourceType(
        name=resource_type.name,
        description=resource_type.description,
        config_schema=_schema_text(resource_type.config_model.model_json_schema()),
    )


def secret_of(message: payload_pb2.Payload, checks: Checks, path: str) -> Mapping[str, Any]:
    """The credentials in a payload. What is said of a payload that holds none quotes nothing of it."""
    if message.types or message.WhichOneof("content") == "blob":
        checks.fail(path, "send plain JSON, without `types` or `blob`")
        return {}
    try:
        value = parse(payload_from_message(message).json)
    except ToranaError:
        value = None
    if not isinstance(value, dict):
        checks.fail(path, 'required: a JSON object, such as {"user": "app", "password": "…"}')
        return {}
    return value


def secret_to_message(secret: SecretInfo) -> secret_service_pb2.Secret:
    return secret_service_pb2.Secret(
        name=secret.name,
        version=secret.version,
        create_time=timestamp(secret.create_time),
        update_time=timestamp(secret.update_time),
    )


def secret_version_to_message(version: VersionInfo, latest: int, now: Micros) -> secret_service_pb2.SecretVersion:
    """`latest` is the number of the secret's latest version."""
    return secret_service_pb2.SecretVersion(
        version=version.version,
        state=_version_state(version, latest, now),
        create_time=timestamp(version.create_time),
        expire_time=None if version.expire_time is None else timestamp(version.expire_time),
    )


def _version_state(version: VersionInfo, latest: int, now: Micros) -> secret_service_pb2.SecretVersionState.ValueType:
    if version.expire_time is not None and version.expire_time <= now:
        return secret_service_pb2.SECRET_VERSION_STATE_EXPIRED
    if version.version < latest:
        return secret_service_pb2.SECRET_VERSION_STATE_SUPERSEDED
    return secret_service_pb2.SECRET_VERSION_STATE_CURRENT


def info_to_message(info: ServerInfo) -> system_service_pb2.GetInfoResponse:
    return system_service_pb2.GetInfoResponse(
        version=info.version,
        title=info.title,
        description=info.description,
        server_id=info.server_id,
        start_time=timestamp(info.start_time),
        journal=info.journal,
        durable=info.durable,
        limits=info.limits,
        features=info.features,
    )


def health_to_message(health: ServerHealth) -> system_service_pb2.GetHealthResponse:
    return system_service_pb2.GetHealthResponse(
        status=_HEALTH[health.status],
        components=[_component(component) for component in health.components],
        draining=health.draining,
    )


def stats_to_message(stats: ServerStats, own: Mapping[str, int]) -> system_service_pb2.GetStatsResponse:
    """`own` are the numbers of the face itself."""
    return system_service_pb2.GetStatsResponse(values={**stats.values, **own}, since=timestamp(stats.since))


def _component(health: ComponentHealth) -> system_service_pb2.ComponentHealth:
    return system_service_pb2.ComponentHealth(
        name=health.name,
        status=_HEALTH[health.status],
        latency=None if health.latency_s is None else duration(health.latency_s),
        last_error=health.last_error,
        since=None if health.since is None else timestamp(health.since),
    )


def _schema_text(schema: Mapping[str, object]) -> str:
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
