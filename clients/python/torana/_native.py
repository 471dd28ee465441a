"""Messages of `torana.v1` to and from native values, field by field.

Reading: every field of a message becomes a member of the same name. Payloads are decoded, Timestamps are aware
datetimes, Durations timedeltas, Structs dicts, enums lower-case names without their prefix, repeated fields tuples,
unset messages None. The messages in `_CLASSES` become that class, all others dicts.

Writing is for requests that people write by hand (workflow definitions): the same names; a Duration is a timedelta or
a number of seconds, and may also be called `<field>_s`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from google.protobuf import duration_pb2, message_factory, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from torana import _payload, _types
from torana._struct import struct_from_native, struct_to_native
from torana.errors import InvalidRequestError, Violation
from torana.v1 import (
    event_pb2,
    execution_pb2,
    payload_pb2,
    resource_pb2,
    secret_service_pb2,
    workflow_pb2,
    workflow_service_pb2,
)
from torana.v1 import system_service_pb2 as system_pb2

Built = TypeVar("Built", bound=Message)
Field = Any
"""A FieldDescriptor. Protobuf's pure Python and C ones share no type that checkers know."""

_CLASSES: Mapping[type[Message], type[Any]] = {
    execution_pb2.Execution: _types.Execution,
    execution_pb2.ExecutionError: _types.ExecutionError,
    execution_pb2.StepStatus: _types.StepStatus,
    resource_pb2.Resource: _types.Resource,
    resource_pb2.ResourceType: _types.ResourceType,
    secret_service_pb2.Secret: _types.Secret,
    secret_service_pb2.SecretVersion: _types.SecretVersion,
    secret_service_pb2.RotateKeysResponse: _types.KeyRotation,
    system_pb2.ComponentHealth: _types.ComponentHealth,
    system_pb2.GetHealthResponse: _types.ServerHealth,
    system_pb2.GetInfoResponse: _types.ServerInfo,
    system_pb2.GetStatsResponse: _types.ServerStats,
    workflow_pb2.StepType: _types.StepType,
    workflow_pb2.Workflow: _types.Workflow,
    workflow_service_pb2.ValidateWorkflowResponse: _types.WorkflowValidation,
    workflow_service_pb2.WorkflowProblem: _types.WorkflowProblem,
}


def to_native(message: Message) -> Any:
    match message:
        case payload_pb2.Payload():
            return _payload.decode(message)
        case timestamp_pb2.Timestamp():
            return _datetime(message)
        case duration_pb2.Duration():
            return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
        case struct_pb2.Struct():
            return struct_to_native(message)
        case _:
            return _CLASSES.get(type(message), dict)(**_members(message))


def event(message: event_pb2.ExecutionEvent, cursor: str = "") -> _types.Event:
    kind = message.WhichOneof("kind")
    return _types.Event(
        execution=message.execution,
        sequence=message.sequence,
        time=_datetime(message.time),
        kind=kind or "unknown",
        step=message.step,
        attempt=message.attempt,
        data=_members(getattr(message, kind)) if kind else {},
        proto=message,
        cursor=cursor,
    )


def event_kinds(names: Iterable[str]) -> list[event_pb2.EventKind.ValueType]:
    """The enum values for names such as "step_completed". Raises InvalidRequestError for one that does not exist."""
    numbers = []
    for name in names:
        if name not in EVENT_KINDS:
            raise _refused("kinds", f"{name!r} is no kind of event; there are {', '.join(EVENT_KINDS)}")
        numbers.append(EVENT_KINDS[name])
    return numbers


EVENT_KINDS: Mapping[str, event_pb2.EventKind.ValueType] = {
    member.name: cast(event_pb2.EventKind.ValueType, member.number)
    for member in event_pb2.ExecutionEvent.DESCRIPTOR.oneofs_by_name["kind"].fields
}
"""The number of an EventKind is the field number of its message."""


def from_native(kind: type[Built], members: Mapping[str, object], path: str) -> Built:
    """A message with these members. Raises InvalidRequestError with the path of the first that does not fit."""
    if not isinstance(members, Mapping):
        raise _refused(path, f"must be a mapping, not {type(members).__name__}")
    message = kind()
    for name, value in members.items():
        descriptor = _find(message, name)
        where = f"{path}.{name}" if path else str(name)
        if descriptor is None:
            known = ", ".join(field.name for field in message.DESCRIPTOR.fields)
            raise _refused(where, f"is not a field here; there are {known}")
        if value is not None:
            _set(message, descriptor, value, where)
    return message


# reading


def _members(message: Message) -> dict[str, Any]:
    return {field.name: _read(message, field) for field in message.DESCRIPTOR.fields}


def _read(message: Message, field: Field) -> Any:
    value = getattr(message, field.name)
    entry = _map_entry(field)
    if entry is not None:
        return {key: _single(entry.fields_by_name["value"], item) for key, item in value.items()}
    if field.is_repeated:
        return tuple(_single(field, item) for item in value)
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _single(field, value)


def _single(field: Field, value: Any) -> Any:
    if field.message_type is not None:
        return to_native(value)
    if field.enum_type is not None:
        return _enum_name(field.enum_type, value)
    return value


def _enum_name(enum: EnumDescriptor, number: int) -> str:
    member = enum.values_by_number.get(number)
    return member.name.removeprefix(_enum_prefix(enum)).lower() if member else f"unknown_{number}"


def _enum_prefix(enum: EnumDescriptor) -> str:
    """`EXECUTION_STATE_` of EXECUTION_STATE_UNSPECIFIED: every enum's first value is that."""
    return str(enum.values[0].name).removesuffix("UNSPECIFIED")


def _datetime(message: timestamp_pb2.Timestamp) -> datetime:
    return datetime.fromtimestamp(message.seconds, UTC).replace(microsecond=message.nanos // 1000)


def _map_entry(field: Any) -> Descriptor | None:
    """The key and value fields of a map, None for any other field."""
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None


# writing


def _find(message: Message, name: str) -> Field | None:
    fields = message.DESCRIPTOR.fields_by_name
    field = fields.get(name)
    if field is None and isinstance(name, str) and name.endswith("_s"):
        field = fields.get(name.removesuffix("_s"))
        return field if field is not None and field.message_type is duration_pb2.Duration.DESCRIPTOR else None
    return field


def _set(message: Any, field: Field, value: object, path: str) -> None:
    try:
        if _map_entry(field) is not None:
            getattr(message, field.name).update(value)
        elif field.is_repeated:
            getattr(message, field.name).extend(_repeated(field, value, path))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_written(field, value, path))
        else:
            setattr(message, field.name, _written(field, value, path))
    except InvalidRequestError:
        raise
    except (TypeError, ValueError, AttributeError) as problem:
        raise _refused(path, f"does not fit: {problem}") from problem


def _repeated(field: Field, value: object, path: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _refused(path, f"must be a list, not {type(value).__name__}")
    return [_written(field, item, f"{path}[{index}]") for index, item in enumerate(value)]


def _written(field: Field, value: Any, path: str) -> Any:
    if field.enum_type is not None:
        return _enum_number(field.enum_type, value, path)
    if field.message_type is None:
        return value
    kind = message_factory.GetMessageClass(field.message_type)
    if kind is struct_pb2.Struct:
        return struct_from_native(value, path)
    if kind is duration_pb2.Duration:
        return duration(value, path)
    return from_native(kind, value, path)


def _enum_number(enum: EnumDescriptor, value: object, path: str) -> int:
    prefix = _enum_prefix(enum)
    member = enum.values_by_name.get(f"{prefix}{value}".upper())
    if member is None:
        known = ", ".join(item.name.removeprefix(prefix).lower() for item in enum.values[1:])
        raise _refused(path, f"{value!r} is not one of {known}")
    return int(member.number)


def duration(value: object, path: str) -> duration_pb2.Duration:
    """From a timedelta or a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError) as problem:
            raise _refused(path, f"{value} is not a number of seconds") from problem
    if not isinstance(value, timedelta):
        raise _refused(path, f"must be seconds or a timedelta, not {type(value).__name__}")
    message = duration_pb2.Duration()
    message.FromTimedelta(value)
    return message


def _refused(path: str, message: str) -> InvalidRequestError:
    violation = Violation(path, message)
    return InvalidRequestError("the request cannot be sent", reason="INVALID_REQUEST", violations=[violation])
