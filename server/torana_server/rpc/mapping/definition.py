"""Workflow definitions. Nothing is lost in either direction but what a Struct cannot hold: integers above 2^53 lose
digits, and 1.0 reads back as 1."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from torana.v1 import workflow_pb2 as pb
from torana_server.adapters.wire.messages import dict_to_struct, duration, seconds_of, struct_to_dict
from torana_server.core.errors import StepError
from torana_server.core.values import encode
from torana_server.rpc.checks import Checks, is_duration
from torana_server.workflow import (
    NO_RETRY,
    Connection,
    Definition,
    Durability,
    RetryPolicy,
    Step,
    StepTimeout,
)

_DURABILITY_TO_MESSAGE: Final = {
    Durability.EVERY_STEP: pb.DURABILITY_EVERY_STEP,
    Durability.EVERY_N_STEPS: pb.DURABILITY_EVERY_N_STEPS,
    Durability.STAGE_BOUNDARIES: pb.DURABILITY_STAGE_BOUNDARIES,
}
_DURABILITY_FROM_MESSAGE: Final = {
    pb.DURABILITY_UNSPECIFIED: Durability.EVERY_STEP,
    **{message: durability for durability, message in _DURABILITY_TO_MESSAGE.items()},
}
_DEFAULT_RETRY: Final = RetryPolicy()
_DEFAULT_TIMEOUT: Final = StepTimeout()


def definition_to_message(definition: Definition) -> pb.WorkflowDefinition:
    return pb.WorkflowDefinition(
        name=definition.name,
        description=definition.description,
        labels=definition.labels,
        steps=[_step_to_message(step) for step in definition.steps],
        connections=[_connection_to_message(connection) for connection in definition.connections],
        timeout=_optional_duration(definition.timeout_s),
        retry=None if definition.retry == NO_RETRY else _retry_to_message(definition.retry),
        durability=_DURABILITY_TO_MESSAGE[definition.durability],
        durability_steps=definition.durability_steps,
    )


def definition_from_message(message: pb.WorkflowDefinition, checks: Checks) -> Definition:
    """What the message can say and a definition cannot goes to `checks`, with paths as the compiler writes them;
    the rest is for the compiler to judge."""
    if message.durability not in _DURABILITY_FROM_MESSAGE:
        checks.fail("durability", f"{message.durability} is not a durability")
    return Definition(
        name=message.name,
        description=message.description,
        labels=dict(message.labels),
        steps=tuple(_step(step, checks, f"steps[{i}]") for i, step in enumerate(message.steps)),
        connections=tuple(map(_connection, message.connections)),
        timeout_s=_seconds(message.timeout, checks, "timeout") if message.HasField("timeout") else None,
        retry=_retry(message.retry, checks, "retry") if message.HasField("retry") else NO_RETRY,
        durability=_DURABILITY_FROM_MESSAGE.get(message.durability, Durability.EVERY_STEP),
        durability_steps=message.durability_steps or 1,
    )


def object_from_message(message: Struct, checks: Checks, path: str) -> dict[str, object]:
    """A JSON object; NaN and infinities, which a Struct can hold and JSON cannot, are violations."""
    fields = struct_to_dict(message)
    try:
        encode(fields)
    except StepError as error:
        checks.fail(f"{path}{error.metadata.get('path', '').replace('/', '.')}", error.message)
        return {}
    return fields


def _step_to_message(step: Step) -> pb.Step:
    return pb.Step(
        name=step.name,
        type=step.type,
        config=dict_to_struct(step.config) if step.config else None,
        inputs=dict_to_struct(step.inputs) if step.inputs else None,
        required_resources=step.required_resources,
        credentials_ref=step.credentials_ref,
        retry=None if step.retry is None else _retry_to_message(step.retry),
        timeout=None if step.timeout == _DEFAULT_TIMEOUT else _timeout_to_message(step.timeout),
    )


def _step(message: pb.Step, checks: Checks, path: str) -> Step:
    return Step(
        name=message.name,
        type=message.type,
        config=object_from_message(message.config, checks, f"{path}.config"),
        inputs=object_from_message(message.inputs, checks, f"{path}.inputs"),
        required_resources=tuple(message.required_resources),
        credentials_ref=message.credentials_ref,
        retry=_retry(message.retry, checks, f"{path}.retry") if message.HasField("retry") else None,
        timeout=_timeout(message.timeout, checks, f"{path}.timeout"),
    )


def _connection_to_message(connection: Connection) -> pb.Connection:
    return pb.Connection(
        from_step=connection.from_step,
        from_output=connection.from_output,
        to_step=connection.to_step,
        to_input=connection.to_input,
        route=connection.route,
    )


def _connection(message: pb.Connection) -> Connection:
    return Connection(
        from_step=message.from_step,
        from_output=message.from_output,
        to_step=message.to_step,
        to_input=message.to_input,
        route=message.route,
    )


def _retry_to_message(retry: RetryPolicy) -> pb.RetryPolicy:
    return pb.RetryPolicy(
        max_attempts=retry.max_attempts,
        initial_interval=duration(retry.initial_interval_s),
        backoff=retry.backoff,
        max_interval=duration(retry.max_interval_s),
        jitter=retry.jitter,
        retry_on=retry.retry_on,
        never_retry_on=retry.never_retry_on,
    )


def _retry(message: pb.RetryPolicy, checks: Checks, path: str) -> RetryPolicy:
    initial_s, max_s = _DEFAULT_RETRY.initial_interval_s, _DEFAULT_RETRY.max_interval_s
    if message.HasField("initial_interval"):
        initial_s = _seconds(message.initial_interval, checks, f"{path}.initial_interval")
    if message.HasField("max_interval"):
        max_s = _seconds(message.max_interval, checks, f"{path}.max_interval")
    return RetryPolicy(
        max_attempts=message.max_attempts,
        initial_interval_s=initial_s,
        backoff=message.backoff or _DEFAULT_RETRY.backoff,
        max_interval_s=max_s,
        jitter=message.jitter if message.HasField("jitter") else _DEFAULT_RETRY.jitter,
        retry_on=tuple(message.retry_on),
        never_retry_on=tuple(message.never_retry_on),
    )


def _timeout_to_message(timeout: StepTimeout) -> pb.StepTimeout:
    return pb.StepTimeout(attempt=duration(timeout.attempt_s), total=_optional_duration(timeout.total_s))


def _timeout(message: pb.StepTimeout, checks: Checks, path: str) -> StepTimeout:
    attempt_s, total_s = _DEFAULT_TIMEOUT.attempt_s, _DEFAULT_TIMEOUT.total_s
    if message.HasField("attempt"):
        attempt_s = _seconds(message.attempt, checks, f"{path}.attempt")
    if message.HasField("total"):
        total_s = _seconds(message.total, checks, f"{path}.total")
    return StepTimeout(attempt_s=attempt_s, total_s=total_s)


def _optional_duration(value_s: float | None) -> Duration | None:
    return None if value_s is None else duration(value_s)


def _seconds(message: Duration, checks: Checks, path: str) -> float:
    if not is_duration(message):
        checks.fail(path, "not a duration: seconds and nanos have one sign, and nanos are below one second")
        return 0.0
    return seconds_of(message)
