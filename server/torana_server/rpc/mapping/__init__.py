"""Messages to model objects and back: the only place that does this."""

from torana_server.rpc.mapping.catalog import (
    health_to_message,
    info_to_message,
    problem_to_message,
    resource_to_message,
    resource_type_to_message,
    secret_of,
    secret_to_message,
    secret_version_to_message,
    stats_to_message,
    step_type_to_message,
    workflow_to_message,
)
from torana_server.rpc.mapping.definition import definition_from_message, definition_to_message, object_from_message
from torana_server.rpc.mapping.execution import (
    STATES,
    check_payload,
    execution_to_message,
    filter_of,
    request_of,
    summary_to_message,
)

__all__ = [
    "STATES",
    "check_payload",
    "definition_from_message",
    "definition_to_message",
    "execution_to_message",
    "filter_of",
    "health_to_message",
    "info_to_message",
    "object_from_message",
    "problem_to_message",
    "request_of",
    "resource_to_message",
    "resource_type_to_message",
    "secret_of",
    "secret_to_message",
    "secret_version_to_message",
    "stats_to_message",
    "step_type_to_message",
    "summary_to_message",
    "workflow_to_message",
]
