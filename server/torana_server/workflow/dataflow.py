"""Which steps can run, and with which inputs. Pure functions of a plan and of what has settled."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from torana_server.core.errors import Reason, StepError
from torana_server.core.values import Payload, decode
from torana_server.workflow.definition import ERROR_ROUTE
from torana_server.workflow.graph import Edge
from torana_server.workflow.outcome import Outcome
from torana_server.workflow.paths import PathNotFoundError, look_up
from torana_server.workflow.plan import Plan, PlannedStep
from torana_server.workflow.templates import Sources, TemplateScope, render


class Readiness(enum.Enum):
    WAIT = "wait"
    RUN = "run"
    SKIP = "skip"


def edge_taken(edge: Edge, outcome: Outcome) -> bool:
    """Whether a settled source hands something on over an edge."""
    if edge.route == ERROR_ROUTE:
        return outcome.error is not None
    return outcome.output is not None and edge.route in ("", outcome.route)


def ready(planned: PlannedStep, outcomes: Mapping[str, Outcome]) -> Readiness:
    """Whether a step can run, given the outcomes of the steps that have settled.

    It waits until all its sources have settled. Then one taken connection is enough; a step that only templates tie to
    others runs when one of those completed.
    """
    for edge in planned.inbound:
        if edge.source not in outcomes:
            return Readiness.WAIT
    for source in planned.after:
        if source not in outcomes:
            return Readiness.WAIT
    if planned.inbound:
        runs = any(edge_taken(edge, outcomes[edge.source]) for edge in planned.inbound)
    else:
        runs = not planned.after or any(outcomes[source].output is not None for source in planned.after)
    return Readiness.RUN if runs else Readiness.SKIP


def inputs_for(plan: Plan, step_name: str, scope: TemplateScope, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The inputs of a step, fresh at each call. Its sources must have settled.

    Later ones win: parameters, forwarded scopes, named connections, static inputs. Raises StepError: INPUT_NOT_FOUND
    (metadata `path`, `step`) for a path that an output does not have, TEMPLATE_ERROR for a template that cannot be
    filled in.
    """
    planned = plan.steps[step_name]
    inputs = _object(scope.parameters)
    if planned.inbound:
        inputs |= _forwarded(plan, planned, outcomes)
        for edge in planned.inbound:
            if edge.to_input and edge_taken(edge, outcomes[edge.source]):
                inputs[edge.to_input] = _picked(edge, outcomes)
    if planned.inputs.members:
        inputs |= render(planned.inputs, Sources(scope, outcomes))
    return inputs


def config_for(plan: Plan, step_name: str, scope: TemplateScope, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The config of a step with its templates filled in, fresh at each call. Raises StepError (TEMPLATE_ERROR)."""
    return render(plan.steps[step_name].config, Sources(scope, outcomes))


def _object(payload: Payload) -> dict[str, Any]:
    value = decode(payload)
    assert isinstance(value, dict), "parameters are checked to be an object when a request is accepted"
    return value


def _forwarded(plan: Plan, planned: PlannedStep, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """What the unnamed connections into a step hand on: one merge in plan order over all steps behind them."""
    behind: set[str] = set()
    reached = [planned]
    while reached:
        step = reached.pop()
        for edge in step.inbound:
            if edge.forwards and edge.source not in behind and edge_taken(edge, outcomes[edge.source]):
                behind.add(edge.source)
                reached.append(plan.steps[edge.source])
    scope: dict[str, Any] = {}
    for name in sorted(behind, key=lambda name: plan.steps[name].index):
        scope |= _contribution(plan.steps[name], outcomes)
    return scope


def _contribution(planned: PlannedStep, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The named inputs a step received, then what it handed on."""
    scope: dict[str, Any] = {}
    for edge in planned.inbound:
        if edge.to_input and edge_taken(edge, outcomes[edge.source]):
            try:
                scope[edge.to_input] = _picked(edge, outcomes)
            except StepError:
                # The step failed for this very input: it received none, and its error is what it hands on.
                continue
    value = _handed_on(outcomes[planned.name])
    return scope | (value if isinstance(value, dict) else {"result": value})


def _handed_on(outcome: Outcome) -> object:
    payload = outcome.output if outcome.output is not None else outcome.error
    assert payload is not None, "an edge is only taken when there is an output or an error"
    return decode(payload)


def _picked(edge: Edge, outcomes: Mapping[str, Outcome]) -> object:
    """What a named connection supplies. Each decodes for itself, so that no two inputs share an object."""
    value = _handed_on(outcomes[edge.source])
    try:
        return look_up(value, edge.path)
    except PathNotFoundError as missing:
        raise StepError(
            f"input {edge.to_input!r} is not there: the path {edge.from_output!r} leads nowhere in the output of step "
            f"{edge.source!r}: {missing}",
            reason=Reason.INPUT_NOT_FOUND,
            metadata={"path": edge.from_output, "step": edge.source, "input": edge.to_input},
        ) from None
