"""Requests, filters, executions and their steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torana.v1 import execution_pb2 as pb
from torana.v1 import execution_service_pb2, payload_pb2, resource_pb2
from torana_server.adapters.wire.messages import (
    error_to_message,
    payload_from_message,
    payload_to_message,
    request_from_message,
    timestamp,
)
from torana_server.core.errors import InvalidRequestError, Reason, StepError, Violation
from torana_server.core.values import checked
from torana_server.execution import (
    EventFilter,
    ExecutionRequest,
    ExecutionState,
    ExecutionView,
    StepPhase,
    StepState,
    Summary,
)
from torana_server.execution.request import check_request
from torana_server.rpc.checks import Checks
from torana_server.rpc.mapping.definition import object_from_message

TIMEOUT_S_MAX: Final = 10 * 366 * 86_400
"""Of a request: ten years."""
CHECK_INTERVAL_S_MAX: Final = 86_400

STATES: Final = {state: pb.ExecutionState.Value(f"EXECUTION_STATE_{state}") for state in ExecutionState}

# An interrupted attempt is followed by another one at once.
_PHASES: Final = {
    phase: pb.STEP_STATE_WAITING if phase is StepPhase.INTERRUPTED else pb.StepState.Value(f"STEP_STATE_{phase}")
    for phase in StepPhase
}


def request_of(message: pb.WorkflowRequest, checks: Checks) -> ExecutionRequest:
    """The request of a message. What is wrong with its form goes to `checks`; the engine checks the rest, but when
    the form is wrong, its findings are asked for here so that the caller learns everything at once."""
    _check_form(message, checks)
    if any(one.path.startswith(("request.parameters", "request.context")) for one in checks.violations):
        return ExecutionRequest(workflow=message.workflow)
    request = request_from_message(message)
    if checks.violations:
        _add_findings(request, checks)
    return request


def _add_findings(request: ExecutionRequest, checks: Checks) -> None:
    try:
        check_request(request)
    except InvalidRequestError as error:
        said = {one.path for one in checks.violations}
        checks.merge(one for one in error.violations if one.path not in said)


def _check_form(message: pb.WorkflowRequest, checks: Checks) -> None:
    if message.HasField("parameters"):
        check_payload(message.parameters, checks, "request.parameters")
    if message.HasField("context"):
        check_payload(message.context, checks, "request.context")
    for name, binding in message.resources.items():
        _check_binding(binding, checks, f"request.resources[{name[:200]!r}]")
    if message.HasField("timeout"):
        checks.duration("request.timeout", message.timeout, seconds_min=1e-6, seconds_max=TIMEOUT_S_MAX)
    if message.HasField("disconnect_grace"):
        checks.duration("request.disconnect_grace", message.disconnect_grace, seconds_min=0, seconds_max=86_400)


def _check_binding(message: resource_pb2.ResourceBinding, checks: Checks, path: str) -> None:
    which = message.WhichOneof("binding")
    if which is None:
        checks.fail(path, "bind a `reference` or the name of a `shared` resource")
    elif which == "shared":
        checks.name(f"{path}.shared", message.shared)
    else:
        reference = message.reference
        checks.required(f"{path}.reference.type", given=bool(reference.type))
        object_from_message(reference.config, checks, f"{path}.reference.config")
        if reference.HasField("health_check_interval"):
            interval = reference.health_check_interval
            where = f"{path}.reference.health_check_interval"
            checks.duration(where, interval, seconds_min=1, seconds_max=CHECK_INTERVAL_S_MAX)


def check_payload(message: payload_pb2.Payload, checks: Checks, path: str) -> None:
    """What JSON text says is checked where it is used; here is the rest.

    Raises InvalidRequestError (NOT_SUPPORTED) for a value that is held elsewhere.
    """
    which = message.WhichOneof("content")
    if which == "blob":
        raise InvalidRequestError(
            "this server takes values inline only; send `json`",
            reason=Reason.NOT_SUPPORTED,
            metadata={"feature": "blob"},
            violations=[Violation(path, "send `json` instead of `blob`")],
        )
    if which is None:
        checks.fail(path, "holds no value; send `json`, or leave the whole field out")
    if which is None or (which == "json" and not message.types):
        return
    try:
        payload = payload_from_message(message)
        if message.types:
            checked(payload.json, message.types)
    except StepError as error:
        checks.fail(path, error.message)
    except InvalidRequestError as error:
        checks.merge(error.violations, path)


def filter_of(message: execution_service_pb2.EventFilter, checks: Checks) -> EventFilter:
    if not message.kinds and not message.steps:
        return _ALL
    return EventFilter(checks.kinds("filter.kinds", message.kinds), checks.steps("filter.steps", message.steps))


_ALL: Final = EventFilter()


def execution_to_message(view: ExecutionView, steps: Iterable[str] = ()) -> pb.Execution:
    """With result and steps, as far as the journal still has them. `steps` are all steps in their order; those that no
    event has touched are pending."""
    message = summary_to_message(view.summary, view.blocked_reason)
    message.retried_as = view.retried_as
    state = view.state
    if state is None:
        return message
    if not view.blocked_reason:
        message.state = STATES[state.status]
    message.latest_sequence = state.sequence
    if state.start is not None:
        message.start_time.CopyFrom(timestamp(state.start))
    if state.end is not None:
        message.end_time.CopyFrom(timestamp(state.end))
    if state.error is not None:
        message.error.CopyFrom(error_to_message(state.error))
    for name, step in state.steps.items():
        if step.output is not None:
            message.result[name].CopyFrom(payload_to_message(step.output))
    for name in dict.fromkeys([*steps, *state.steps]):
        message.steps.append(_step_status(name, state.step(name)))
    return message


def summary_to_message(summary: Summary, blocked_reason: str = "") -> pb.Execution:
    return pb.Execution(
        id=summary.execution,
        workflow=summary.workflow,
        revision=summary.revision,
        state=pb.EXECUTION_STATE_BLOCKED if blocked_reason else STATES[summary.state],
        create_time=timestamp(summary.create_time),
        start_time=None if summary.start_time is None else timestamp(summary.start_time),
        end_time=None if summary.end_time is None else timestamp(summary.end_time),
        latest_sequence=summary.latest_sequence,
        labels=summary.labels,
        session_id=summary.session_id,
        idempotency_key=summary.idempotency_key,
        retry_of=summary.retry_of,
        blocked_reason=blocked_reason,
    )


def _step_status(name: str, step: StepState) -> pb.StepStatus:
    waits = step.phase is StepPhase.WAITING and step.next_attempt is not None
    return pb.StepStatus(
        step=name,
        state=_PHASES[step.phase],
        attempt=step.attempt,
        start_time=None if step.first_start is None else timestamp(step.first_start),
        end_time=None if step.end is None else timestamp(step.end),
        error=None if step.error is None else error_to_message(step.error),
        next_attempt_time=timestamp(step.next_attempt) if waits and step.next_attempt is not None else None,
    )
