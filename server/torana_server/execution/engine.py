"""Executions as their callers see them: start, watch, read, list, cancel, retry; recovery and shutdown.

The engine owns the executors of this server. Nothing outside this package knows how an execution is driven.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torana_server.access import Principal
from torana_server.core import logs
from torana_server.core.errors import (
    ConflictError,
    EventsExpiredError,
    ExecutionNotFoundError,
    InvalidRequestError,
    Reason,
    StateError,
    ToranaError,
)
from torana_server.execution.admission import Admission, AdmissionLimits, Place
from torana_server.execution.disconnect import DisconnectGuard
from torana_server.execution.driving import Driving, shutting_down
from torana_server.execution.events import JOURNAL_FORMAT, Accepted, EventKind, StepReused
from torana_server.execution.executor import Executor, Services, read_state
from torana_server.execution.feed import ALL_EVENTS, EventFilter, Feed, Watch, WatchAll
from torana_server.execution.filters import EVERYTHING, Filter, Operator, Term
from torana_server.execution.ports import (
    TERMINAL_STATES,
    CancelRequest,
    Capabilities,
    Commit,
    Created,
    ExecutionState,
    ResourceBinder,
    StoredDefinition,
    Summary,
    Watched,
)
from torana_server.execution.request import ExecutionRequest, check_request, request_hash
from torana_server.execution.scheduler import Fact
from torana_server.execution.state import State, StepPhase
from torana_server.execution.text import storable
from torana_server.execution.views import ExecutionView, StartedExecution
from torana_server.workflow import RegisteredWorkflow, WorkflowRegistry, to_json

logger = logs.logger("execution")

CANCEL_REASON_CHARS_MAX = 1_000


class Engine:
    """Also the journal's listener: commits go to the feed, commands to the executors."""

    def __init__(
        self,
        services: Services,
        workflows: WorkflowRegistry,
        binder: ResourceBinder,
        *,
        offers: Callable[[], frozenset[str]],
        limits: AdmissionLimits,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self._services = services
        self._journal = services.journal
        self._workflows = workflows
        self._binder = binder
        self._offers = offers
        self._on_fatal = on_fatal
        self._admission = Admission(limits)
        self._feed = Feed(services.journal)
        self._guard = DisconnectGuard()
        self._driving = Driving(services, workflows, self._feed, self._guard, self._admission, offers)
        self._stored_revisions: set[str] = set()

    async def open(self) -> None:
        """Opens the journal. Executions may start; unfinished ones wait for `go_on`."""
        await self._journal.open(self)

    def go_on(self) -> None:
        """Goes on with unfinished executions, in the background, now and whenever one loses its server."""
        self._driving.go_on()

    def offers_changed(self) -> None:
        """There is a new function or step type: what was blocked for want of it goes on at once."""
        self._driving.look_now()

    async def drain(self, grace_s: float) -> None:
        """Accepts nothing new, lets running steps finish for `grace_s`, gives the rest up and ends every watch."""
        await self._driving.drain(grace_s)
        self._feed.close()

    async def close(self) -> None:
        """After `drain`."""
        await self._journal.close()

    @property
    def draining(self) -> bool:
        return self._driving.draining

    # --- starting -----------------------------------------------------------------------------------------------

    async def start(
        self, principal: Principal, request: ExecutionRequest, *, share_inline: bool = False
    ) -> StartedExecution:
        """Starts an execution, or finds the one the idempotency key belongs to. Durable on return.

        With `share_inline` later requests may refer to this one's references as "@name".
        """
        self._refuse_while_draining()
        check_request(request)
        hashed = request_hash(request) if request.idempotency_key else b""
        try:
            return await self._start(principal, request, hashed, share_inline)
        except ConflictError:
            raise
        except ToranaError:
            # What the key belongs to was accepted once; that it would be refused now changes nothing.
            existing = await self._find(principal, request)
            if existing is None:
                raise
            return _attach(existing, hashed)

    async def _start(
        self, principal: Principal, request: ExecutionRequest, hashed: bytes, share_inline: bool
    ) -> StartedExecution:
        workflow = self._workflows.get(request.workflow, request.revision)
        self._admission.check(Place(principal.tenant, request.workflow))
        required = workflow.required_resources
        bindings = self._binder.bind(principal, request.resources, required, share_inline=share_inline)
        await self._store_definition(workflow)
        kept = replace(request, resources=bindings) if bindings else request
        accepted = Accepted(kept, workflow.revision, principal.tenant, principal.subject)
        created = await self._driving.begin(workflow.plan, accepted, hashed)
        return _started(created, hashed)

    async def retry(self, principal: Principal, execution: str, idempotency_key: str) -> StartedExecution:
        """Starts a new execution of the same request and revision that reuses the steps that completed."""
        self._refuse_while_draining()
        summary = await self._summary(principal, execution)
        if summary.state not in (ExecutionState.FAILED, ExecutionState.CANCELLED):
            raise StateError(
                f"execution {execution} is {summary.state}; only one that FAILED or was CANCELLED can be retried",
                reason=Reason.EXECUTION_NOT_FINISHED
                if summary.state not in TERMINAL_STATES
                else Reason.EXECUTION_FINISHED,
                metadata={"execution": execution, "state": summary.state},
            )
        _check_readable(summary)
        old = await read_state(self._journal, self._services.codec, execution)
        request = replace(old.accepted.request, idempotency_key=idempotency_key)
        check_request(request)
        hashed = request_hash(request, retry_of=execution) if idempotency_key else b""
        accepted = Accepted(request, old.accepted.revision, principal.tenant, principal.subject, execution)
        try:
            plan = await self._driving.plan(old.accepted.revision)
            created = await self._driving.begin(plan, accepted, hashed, _reused(execution, old))
        except ToranaError:
            existing = await self._find(principal, request)
            if existing is None:
                raise
            return _attach(existing, hashed)
        return _started(created, hashed)

    async def _store_definition(self, workflow: RegisteredWorkflow) -> None:
        if workflow.revision in self._stored_revisions:
            return
        plan = workflow.plan
        body = to_json(plan.definition)
        await self._journal.put_definition(StoredDefinition(plan.revision, plan.definition.name, body, plan.requires))
        self._stored_revisions.add(plan.revision)

    # --- watching and reading -----------------------------------------------------------------------------------

    async def watch(
        self, principal: Principal, execution: str, after_sequence: int = 0, where: EventFilter = ALL_EVENTS
    ) -> Watch:
        """A watch from after a sequence. Close it when done.

        Raises ExecutionNotFoundError, EventsExpiredError, StateError (SEQUENCE_OUT_OF_RANGE).
        """
        executor = self._driven(principal, execution)
        # A watcher may be ahead of what the executor knows: the journal tells both, and this one at its leisure.
        if executor is not None and after_sequence <= executor.durable_sequence:
            latest, ended = executor.durable_sequence, executor.ended
        else:
            summary = await self._summary(principal, execution)
            latest, ended = summary.latest_sequence, summary.state in TERMINAL_STATES
            _check_readable(summary, after_sequence)
        if after_sequence > latest:
            raise StateError(
                f"execution {execution} has {latest} events so far; nothing can follow event {after_sequence} yet",
                reason=Reason.SEQUENCE_OUT_OF_RANGE,
                metadata={"latestSequence": str(latest)},
            )
        self._guard.attached(execution)
        return self._feed.watch(
            execution,
            after_sequence,
            where,
            through=latest,
            ended=ended,
            on_close=lambda: self._guard.detached(execution),
        )

    async def watch_all(
        self, principal: Principal, position: int | None, where: Filter, kinds: frozenset[EventKind]
    ) -> WatchAll:
        """A watch over all executions of the tenant; `position` None means new events only.

        Raises InvalidRequestError (INVALID_PAGE_TOKEN) for a position that this journal has not reached.
        """
        latest = await self._journal.position()
        if position is not None and position > latest:
            raise InvalidRequestError(
                "the cursor is beyond the end of this journal; start again from the beginning",
                reason=Reason.INVALID_PAGE_TOKEN,
            )
        return self._feed.watch_all(principal.tenant, latest if position is None else position, where, kinds)

    async def get(self, principal: Principal, execution: str) -> ExecutionView:
        """One execution with its steps and outputs. Raises ExecutionNotFoundError."""
        summary = await self._summary(principal, execution)
        state = None
        if summary.oldest_sequence <= summary.latest_sequence:
            state = await read_state(self._journal, self._services.codec, execution)
            summary = _as_of(summary, state)
        retries = Filter((Term("retry_of", Operator.EQ, execution),))
        retried = await self._journal.summaries(principal.tenant, retries, limit=1, before=None)
        blocked = await self._blocked(principal, [summary])
        return ExecutionView(summary, state, retried[0].execution if retried else "", blocked.get(execution, ""))

    async def list(
        self, principal: Principal, where: Filter = EVERYTHING, *, limit: int = 50, before: str | None = None
    ) -> list[ExecutionView]:
        """Newest first, without states."""
        summaries = await self._journal.summaries(principal.tenant, where, limit=limit, before=before)
        blocked = await self._blocked(principal, summaries)
        return [ExecutionView(s, None, blocked_reason=blocked.get(s.execution, "")) for s in summaries]

    async def cancel(self, principal: Principal, execution: str, reason: str) -> Summary:
        """Durably asks for a cancel. Raises ExecutionNotFoundError, StateError (EXECUTION_FINISHED)."""
        summary = await self._summary(principal, execution)
        if summary.state in TERMINAL_STATES:
            raise StateError(
                f"execution {execution} is {summary.state} already",
                metadata={"execution": execution, "state": summary.state},
            )
        command = CancelRequest(storable(reason, CANCEL_REASON_CHARS_MAX), principal.subject)
        await self._journal.request(execution, command)
        return await self._summary(principal, execution)

    async def counts(self) -> dict[str, int]:
        """Executions by state, and what this server drives."""
        counts = {f"executions_{state.lower()}": n for state, n in (await self._journal.count()).items()}
        return counts | {
            "executions_driven": len(self._driving),
            "admission_running": self._admission.running,
            "admission_queued": self._admission.queued,
            "feed_tail_bytes": self._feed.tail_bytes(),
        }

    # --- the journal's listener ---------------------------------------------------------------------------------

    def committed(self, commits: Sequence[Commit]) -> None:
        self._feed.committed(commits)

    def requested(self, execution: str) -> None:
        self._driving.requested(execution)

    def claimable(self) -> None:
        self._driving.look_now()

    def disowned(self) -> None:
        self._driving.disowned()

    def watched(self) -> Watched:
        return self._feed.watched()

    def failed(self, error: Exception) -> None:
        logger.critical("the journal failed; the server stops so that recovery starts clean: %s", error)
        self._on_fatal(error)

    # --- parts --------------------------------------------------------------------------------------------------

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise shutting_down()

    async def _summary(self, principal: Principal, execution: str) -> Summary:
        summary = await self._journal.get(execution)
        if summary is None or summary.tenant != principal.tenant:
            raise ExecutionNotFoundError(f"there is no execution {execution!r}", metadata={"execution": execution})
        return summary

    def _driven(self, principal: Principal, execution: str) -> Executor | None:
        """The executor of an execution that this server drives."""
        executor = self._driving.executor(execution)
        return executor if executor is not None and executor.tenant == principal.tenant else None

    async def _find(self, principal: Principal, request: ExecutionRequest) -> Summary | None:
        if not request.idempotency_key:
            return None
        return await self._journal.find(principal.tenant, request.workflow, request.idempotency_key)

    async def _blocked(self, principal: Principal, summaries: Sequence[Summary]) -> Mapping[str, str]:
        """Asked only when there is an execution that could be blocked."""
        if all(s.state in TERMINAL_STATES or s.execution in self._driving for s in summaries):
            return {}
        return await self._journal.blocked(principal.tenant, Capabilities(self._offers(), JOURNAL_FORMAT))


def _started(created: Created, hashed: bytes) -> StartedExecution:
    if not created.created:
        return _attach(created.summary, hashed)
    if logger.isEnabledFor(logging.DEBUG):
        # In the course of the call: the line that shows which call an execution came from.
        fields = {"execution": created.summary.execution, "workflow": created.summary.workflow}
        logger.debug("execution accepted", extra=fields)
    return StartedExecution(created.summary, attached=False)


def _as_of(summary: Summary, state: State) -> Summary:
    """The events were read after the row: they may be ahead of it."""
    return replace(
        summary, state=state.status, start_time=state.start, end_time=state.end, latest_sequence=state.sequence
    )


def _attach(existing: Summary, hashed: bytes) -> StartedExecution:
    if existing.request_hash != hashed:
        raise ConflictError(
            f"the idempotency key belongs to execution {existing.execution} of a different request; "
            "use another key, or send the same request",
            reason=Reason.IDEMPOTENCY_CONFLICT,
            metadata={"execution": existing.execution},
        )
    return StartedExecution(existing, attached=True)


def _check_readable(summary: Summary, after_sequence: int = 0) -> None:
    if after_sequence + 1 < summary.oldest_sequence:
        raise EventsExpiredError(
            f"the events of execution {summary.execution} were removed by retention; it ended as {summary.state}",
            metadata={"execution": summary.execution, "state": summary.state},
        )


def _reused(execution: str, old: State) -> list[Fact]:
    return [
        Fact(StepReused(execution, step.output_sequence, step.output, step.route), name)
        for name, step in old.steps.items()
        if step.phase is StepPhase.COMPLETED and step.output is not None
    ]
