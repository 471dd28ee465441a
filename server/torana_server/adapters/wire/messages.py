"""Between model objects and the messages that occur in events: values, requests, references, errors."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2

from torana.v1 import execution_pb2, payload_pb2, resource_pb2
from torana_server.core.clock import MICROS_PER_SECOND, Micros
from torana_server.core.errors import InvalidRequestError, Reason
from torana_server.core.values import Payload, encode
from torana_server.execution.events import ExecutionError
from torana_server.execution.request import EMPTY_OBJECT, ExecutionRequest
from torana_server.resources import Binding, ResourceReference, SharedName

DISCONNECT_GRACE_S = 30.0


def timestamp(at: Micros) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=at // MICROS_PER_SECOND, nanos=at % MICROS_PER_SECOND * 1000)


def micros(message: timestamp_pb2.Timestamp) -> Micros:
    return Micros(message.seconds * MICROS_PER_SECOND + message.nanos // 1000)


def duration(duration_s: float) -> duration_pb2.Duration:
    us = round(duration_s * MICROS_PER_SECOND)
    sign = -1 if us < 0 else 1
    return duration_pb2.Duration(
        seconds=sign * (abs(us) // MICROS_PER_SECOND), nanos=sign * (abs(us) % MICROS_PER_SECOND) * 1000
    )


def seconds_of(message: duration_pb2.Duration) -> float:
    # One rounding only, so that 1.189164 s reads back as itself.
    return (message.seconds * 10**9 + message.nanos) / 10**9


def payload_to_message(payload: Payload) -> payload_pb2.Payload:
    if payload.types:
        return payload_pb2.Payload(json=payload.json, types=payload.types)
    return payload_pb2.Payload(json=payload.json)


def payload_from_message(message: payload_pb2.Payload) -> Payload:
    """Raises InvalidRequestError for a blob, which this server does not hold. An unset payload is JSON null."""
    which = message.WhichOneof("content")
    if which == "json":
        return Payload(message.json, dict(message.types))
    if which == "value":
        return encode(plain(message.value))
    if which == "blob":
        raise InvalidRequestError("this server takes values inline only; send `json`", reason=Reason.NOT_SUPPORTED)
    return Payload("null")


def plain(value: struct_pb2.Value) -> object:
    """A Value as Python; whole numbers that a double holds exactly are integers again."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return struct_to_dict(value.struct_value)
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= 2**53 else number
    if kind == "string_value":
        return value.string_value
    return value.bool_value if kind == "bool_value" else None


def struct_to_dict(struct: struct_pb2.Struct) -> dict[str, object]:
    return {key: plain(value) for key, value in struct.fields.items()}


def dict_to_struct(fields: Mapping[str, object]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(dict(fields))  # type: ignore[arg-type]  # JSON values; the stub names a type of its own
    return struct


def reference_to_message(reference: ResourceReference) -> resource_pb2.ResourceReference:
    interval_s = reference.health_check_interval_s
    return resource_pb2.ResourceReference(
        type=reference.type,
        config=dict_to_struct(reference.config),
        credentials_ref=reference.credentials_ref,
        credentials_key=reference.credentials_key,
        register_as=reference.register_as,
        health_check_interval=None if interval_s is None else duration(interval_s),
    )


def reference_from_message(message: resource_pb2.ResourceReference) -> ResourceReference:
    has_interval = message.HasField("health_check_interval")
    return ResourceReference(
        type=message.type,
        config=struct_to_dict(message.config),
        credentials_ref=message.credentials_ref,
        credentials_key=message.credentials_key,
        register_as=message.register_as,
        health_check_interval_s=seconds_of(message.health_check_interval) if has_interval else None,
    )


def binding_to_message(binding: Binding) -> resource_pb2.ResourceBinding:
    if isinstance(binding, SharedName):
        return resource_pb2.ResourceBinding(shared=binding.name)
    return resource_pb2.ResourceBinding(reference=reference_to_message(binding))


def binding_from_message(message: resource_pb2.ResourceBinding) -> Binding:
    """An unset binding becomes a reference without a type, which validation refuses by name."""
    if message.WhichOneof("binding") == "shared":
        return SharedName(message.shared)
    return reference_from_message(message.reference)


def request_to_message(request: ExecutionRequest) -> execution_pb2.WorkflowRequest:
    message = execution_pb2.WorkflowRequest(
        workflow=request.workflow,
        revision=request.revision,
        idempotency_key=request.idempotency_key,
        labels=request.labels,
        session_id=request.session_id,
        cancel_on_disconnect=request.cancel_on_disconnect,
    )
    if request.parameters != EMPTY_OBJECT:
        message.parameters.CopyFrom(payload_to_message(request.parameters))
    if request.context != EMPTY_OBJECT:
        message.context.CopyFrom(payload_to_message(request.context))
    for name, binding in request.resources.items():
        message.resources[name].CopyFrom(binding_to_message(binding))
    if request.timeout_s is not None:
        message.timeout.CopyFrom(duration(request.timeout_s))
    if request.cancel_on_disconnect:
        message.disconnect_grace.CopyFrom(duration(request.disconnect_grace_s))
    return message


def request_from_message(message: execution_pb2.WorkflowRequest) -> ExecutionRequest:
    """The request as it stands; what it says is checked by the engine."""
    return ExecutionRequest(
        workflow=message.workflow,
        revision=message.revision,
        parameters=payload_from_message(message.parameters) if message.HasField("parameters") else EMPTY_OBJECT,
        context=payload_from_message(message.context) if message.HasField("context") else EMPTY_OBJECT,
        resources={name: binding_from_message(binding) for name, binding in message.resources.items()},
        idempotency_key=message.idempotency_key,
        timeout_s=seconds_of(message.timeout) if message.HasField("timeout") else None,
        labels=dict(message.labels),
        session_id=message.session_id,
        cancel_on_disconnect=message.cancel_on_disconnect,
        disconnect_grace_s=(
            seconds_of(message.disconnect_grace) if message.HasField("disconnect_grace") else DISCONNECT_GRACE_S
        ),
    )


def error_to_message(error: ExecutionError) -> execution_pb2.ExecutionError:
    return execution_pb2.ExecutionError(
        type=error.type,
        message=error.message,
        step=error.step,
        attempt=error.attempt,
        retryable=error.retryable,
        traceback=error.traceback,
        cause=None if error.cause is None else error_to_message(error.cause),
        reason=error.reason,
        metadata=error.metadata,
    )


def error_from_message(message: execution_pb2.ExecutionError) -> ExecutionError:
    return ExecutionError(
        type=message.type,
        message=message.message,
        step=message.step,
        attempt=message.attempt,
        retryable=message.retryable,
        traceback=message.traceback,
        cause=error_from_message(message.cause) if message.HasField("cause") else None,
        reason=message.reason,
        metadata=dict(message.metadata),
    )
