"""Deciding what to do next: pure functions of (plan, state, now).

`decide` returns facts to journal; folding them and deciding again until nothing comes out is one turn. Nothing here
touches a clock, a random number, the network or a disk.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from torana_server.core.clock import Micros, seconds
from torana_server.core.errors import Reason
from torana_server.core.limits import EVENTS_PER_EXECUTION_MAX
from torana_server.execution.events import (
    Body,
    Cancelled,
    Completed,
    ExecutionError,
    Failed,
    StepCancelled,
    StepFailed,
    StepRetrying,
    StepSkipped,
    StepStarted,
)
from torana_server.execution.ports import ExecutionState
from torana_server.execution.state import SETTLED, State, StepPhase, StepState
from torana_server.workflow import ERROR_ROUTE, Plan, PlannedStep, Readiness, edge_taken, ready

MAX_INTERRUPTIONS = 5
"""Crashes and drains a step survives before it fails with STEP_INTERRUPTED."""


class Fact(NamedTuple):
    """An event before it has a sequence and a time. `step` is "" and `attempt` 0 for the execution itself."""

    body: Body
    step: str = ""
    attempt: int = 0


class StopReason(enum.Enum):
    TIMEOUT = "timeout"
    ENDING = "ending"


class Decision(NamedTuple):
    """`facts` come first: journal and fold them, then decide again. `stop` names running steps whose attempts must
    end, and why. `wake_at` is when time alone may change the decision."""

    facts: tuple[Fact, ...] = ()
    stop: tuple[tuple[str, StopReason], ...] = ()
    wake_at: Micros | None = None


NOTHING = Decision()
NOTHING_BEGAN: Mapping[str, Micros] = MappingProxyType({})


def decide(
    plan: Plan,
    state: State,
    now: Micros,
    *,
    touched: Iterable[str] | None = None,
    may_start: bool = True,
    began: Mapping[str, Micros] = NOTHING_BEGAN,
) -> Decision:
    """What to do now.

    `touched` limits the search for steps that became runnable to the successors of these steps, plus the roots when
    it is None. `may_start` is False while the server drains: nothing new starts, but what is done is finished.
    `began` says when running attempts began, which is as long after their start was decided as the commit took.
    """
    if state.terminal or state.status is ExecutionState.QUEUED:
        return NOTHING
    failure = failure_of(plan, state, now)
    if state.cancelling is not None or (failure is not None and not _all_settled(plan, state)):
        return _end(plan, state, now, failure, may_start, began)
    facts = [*_runnable(plan, state, touched, may_start), *_due(plan, state, now, may_start, state.active)]
    if facts:
        return Decision(tuple(facts))
    if _all_settled(plan, state):
        return Decision((Fact(_terminal(state, failure)),))
    stop, wake_at = _by_the_clock(plan, state, now, began)
    return Decision(stop=tuple(stop), wake_at=wake_at)


def failure_of(plan: Plan, state: State, now: Micros) -> ExecutionError | None:
    """Why the execution fails, if it does: a step that failed for good, or its time is up."""
    if state.failed_step:
        return state.step(state.failed_step).error
    if _is_late(plan, state, now) and (not _all_settled(plan, state) or _any_cancelled(state)):
        return ExecutionError(
            type=Reason.EXECUTION_TIMEOUT,
            reason=Reason.EXECUTION_TIMEOUT,
            message="the execution took longer than its timeout allows; raise the timeout or split the workflow",
        )
    return None


def _is_late(plan: Plan, state: State, now: Micros) -> bool:
    deadline = deadline_of(plan, state)
    return deadline is not None and now >= deadline


def _any_cancelled(state: State) -> bool:
    """Whether the execution's end cut a step short: one that settled all its steps by itself was in time."""
    return any(step.phase is StepPhase.CANCELLED for step in state.steps.values())


def deadline_of(plan: Plan, state: State) -> Micros | None:
    """The execution's own deadline: the shorter of the workflow's and the request's timeout, from its start."""
    own_s, asked_s = plan.definition.timeout_s, state.accepted.request.timeout_s
    timeout_s = own_s if asked_s is None else asked_s if own_s is None else min(own_s, asked_s)
    return None if timeout_s is None or state.start is None else Micros(state.start + seconds(timeout_s))


def attempt_deadline(planned: PlannedStep, step: StepState, began: Micros | None) -> Micros:
    """When the running attempt must end: its own timeout or that of all attempts, whichever comes first."""
    assert step.attempt_start is not None
    # `began` may be that of the attempt before, while this one waits for its commit.
    start = step.attempt_start if began is None else max(began, step.attempt_start)
    deadline = start + seconds(planned.step.timeout.attempt_s)
    total = _total_deadline(planned, step)
    return Micros(deadline if total is None else min(deadline, total))


def on_failure(
    plan: Plan, state: State, name: str, error: ExecutionError, now: Micros, draw: float
) -> StepRetrying | StepFailed:
    """What a failed attempt becomes. `draw` in [0, 1) is the random number behind the jitter, chosen once."""
    planned, step = plan.steps[name], state.step(name)
    failed = StepFailed(error, handled=planned.error_handled)
    policy = planned.retry
    ending = state.cancelling is not None or bool(state.failed_step)
    spent = step.failures + 1 >= policy.max_attempts or state.sequence >= EVENTS_PER_EXECUTION_MAX
    if ending or not error.retryable or spent:
        return failed
    names = {error.type, error.reason}
    if names & set(policy.never_retry_on) or (policy.retry_on and not names & set(policy.retry_on)):
        return failed
    # The exponent is bounded because the pause reaches its maximum long before a float overflows.
    pause = policy.initial_interval_s * policy.backoff ** min(step.failures, 64)
    pause = min(pause, policy.max_interval_s) * (1 - policy.jitter * draw)
    at = Micros(now + seconds(pause))
    total = _total_deadline(planned, step)
    return failed if total is not None and at >= total else StepRetrying(error, at)


def timeout_error(planned: PlannedStep, step: StepState, now: Micros) -> ExecutionError:
    total = _total_deadline(planned, step)
    over_total = total is not None and now >= total
    limit = planned.step.timeout.total_s if over_total else planned.step.timeout.attempt_s
    what = "all attempts together" if over_total else "the attempt"
    return ExecutionError(
        type=Reason.STEP_TIMEOUT,
        reason=Reason.STEP_TIMEOUT,
        message=f"{what} took longer than {limit:g} s",
        step=planned.step.name,
        attempt=step.attempt,
        retryable=not over_total,
        metadata={"timeoutS": f"{limit:g}"},
    )


def _all_settled(plan: Plan, state: State) -> bool:
    return len(state.outcomes) == len(plan.steps)


def _terminal(state: State, failure: ExecutionError | None) -> Body:
    if failure is not None:
        return Failed(failure, state.outputs())
    return Completed(state.outputs())


def _end(
    plan: Plan,
    state: State,
    now: Micros,
    failure: ExecutionError | None,
    may_start: bool,
    began: Mapping[str, Micros],
) -> Decision:
    """The execution is ending: stop what runs, start error routes only, then write the terminal event."""
    handling = state.cancelling is None and bool(state.failed_step) and not _is_late(plan, state, now)
    handlers = _handlers_active(plan, state) if handling else frozenset()
    routes = list(_error_routes(plan, state)) if handling else []
    active = [name for name in plan.order if name in state.active]
    resting = [name for name in active if state.step(name).phase is not StepPhase.RUNNING]
    resumed = [name for name in resting if name in handlers and state.step(name).phase is StepPhase.INTERRUPTED]
    reason = "the execution was cancelled" if state.cancelling is not None else "the execution failed"
    facts = [Fact(StepCancelled(reason), name, state.step(name).attempt) for name in resting if name not in resumed]
    facts += _due(plan, state, now, may_start, resumed)
    if may_start:
        facts += [Fact(StepStarted(), name, 1) for name in routes]
    if facts:
        return Decision(tuple(facts))
    if len(active) > len(resumed):
        stop = [(name, StopReason.ENDING) for name in active if name not in handlers]
        late, wake_at = _by_the_clock(plan, state, now, began)
        return Decision(stop=(*stop, *(pair for pair in late if pair[0] in handlers)), wake_at=wake_at)
    if resumed or routes:
        return NOTHING  # this server drains; the next one starts them
    if state.cancelling is not None:
        return Decision((Fact(Cancelled(state.cancelling.reason, state.outputs())),))
    return Decision((Fact(_terminal(state, failure)),))


def _error_routes(plan: Plan, state: State) -> Iterator[str]:
    for name in plan.order:
        pending = state.step(name).phase is StepPhase.PENDING
        if pending and _by_error(plan, state, name) and ready(plan.steps[name], state.outcomes) is Readiness.RUN:
            yield name


def _handlers_active(plan: Plan, state: State) -> frozenset[str]:
    return frozenset(name for name in state.active if _by_error(plan, state, name))


def _by_error(plan: Plan, state: State, name: str) -> bool:
    """Whether an error route was taken into this step."""
    return any(
        edge.route == ERROR_ROUTE and edge.source in state.outcomes and edge_taken(edge, state.outcomes[edge.source])
        for edge in plan.steps[name].inbound
    )


def _runnable(plan: Plan, state: State, touched: Iterable[str] | None, may_start: bool) -> Iterator[Fact]:
    """Steps whose inputs are decided: started, or skipped because nothing leads to them."""
    for name in _candidates(plan, touched):
        if state.step(name).phase is not StepPhase.PENDING:
            continue
        readiness = ready(plan.steps[name], state.outcomes)
        if readiness is Readiness.RUN and may_start:
            yield Fact(StepStarted(), name, 1)
        elif readiness is Readiness.SKIP:
            yield Fact(StepSkipped(_why_skipped(plan.steps[name])), name)


def _candidates(plan: Plan, touched: Iterable[str] | None) -> Iterable[str]:
    if touched is None:
        return plan.order
    names = {target for source in touched for target in plan.successors[source]}
    return sorted(names, key=lambda name: plan.steps[name].index) if len(names) > 1 else names


def _why_skipped(planned: PlannedStep) -> str:
    sources = ", ".join(
        f"{edge.source!r} by route {edge.route!r}" if edge.route else f"{edge.source!r}" for edge in planned.inbound
    )
    return f"no connection into it was taken (from {sources})"


def _due(plan: Plan, state: State, now: Micros, may_start: bool, names: Iterable[str]) -> Iterator[Fact]:
    """Of the active steps `names`: retries whose time has come, interrupted attempts, and waits that outlast the
    step's time."""
    for name in sorted(names, key=lambda name: plan.steps[name].index):
        step = state.step(name)
        if step.phase is StepPhase.RUNNING:
            continue
        planned = plan.steps[name]
        total = _total_deadline(planned, step)
        if step.phase is StepPhase.INTERRUPTED and step.interruptions > MAX_INTERRUPTIONS:
            yield Fact(StepFailed(_interrupted(name, step), planned.error_handled), name, step.attempt)
        elif total is not None and now >= total:
            yield Fact(StepFailed(timeout_error(planned, step, now), planned.error_handled), name, step.attempt)
        elif may_start and (step.phase is StepPhase.INTERRUPTED or now >= (step.next_attempt or 0)):
            yield Fact(StepStarted(), name, step.attempt + 1)


def _interrupted(name: str, step: StepState) -> ExecutionError:
    return ExecutionError(
        type=Reason.STEP_INTERRUPTED,
        reason=Reason.STEP_INTERRUPTED,
        message=f"the server was lost {step.interruptions} times while this step ran; it may be what stops the server",
        step=name,
        attempt=step.attempt,
        metadata={"interruptions": str(step.interruptions)},
    )


def _by_the_clock(
    plan: Plan, state: State, now: Micros, began: Mapping[str, Micros]
) -> tuple[list[tuple[str, StopReason]], Micros | None]:
    """Attempts that have run too long, and when time alone may next change the decision."""
    stop = []
    times = [deadline_of(plan, state)]
    for name in state.active:
        planned, step = plan.steps[name], state.steps[name]
        if step.phase is StepPhase.RUNNING:
            deadline = attempt_deadline(planned, step, began.get(name))
            times.append(deadline)
            if now >= deadline:
                stop.append((name, StopReason.TIMEOUT))
        elif step.phase is StepPhase.WAITING:
            times += [step.next_attempt, _total_deadline(planned, step)]
    # A set has another order in each process; what is decided has one.
    stop.sort(key=lambda pair: plan.steps[pair[0]].index)
    return stop, min((at for at in times if at is not None and at > now), default=None)


def _total_deadline(planned: PlannedStep, step: StepState) -> Micros | None:
    total_s = planned.step.timeout.total_s
    if total_s is None or step.first_start is None:
        return None
    return Micros(step.first_start + seconds(total_s))


def settled_by(facts: Iterable[Fact], state: State) -> list[str]:
    """The steps that `facts` settled, as `state` (after folding them) shows."""
    return [fact.step for fact in facts if fact.step and state.step(fact.step).phase in SETTLED]
