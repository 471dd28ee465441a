"""Executions as their callers see them: start, watch, read, list, cancel, retry; recovery and shutdown.

The engine owns the executors of this server. Nothing outside this package knows how an execution is driven.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torana_server.access import Principal
from torana_server.core.errors import (
    ConflictError,
    EventsExpiredError,
    ExecutionNotFoundError,
    InvalidRequestError,
    Reason,
    StateError,
    ToranaError,
    UnavailableError,
)
from torana_server.core.ids import new_id
from torana_server.core.limits import EVENT_BYTES_MAX
from torana_server.execution.admission import Admission, AdmissionLimits, Place
from torana_server.execution.disconnect import DisconnectGuard
from torana_server.execution.events import JOURNAL_FORMAT, Accepted, EventKind, StepReused
from torana_server.execution.executor import Executor, Services, read_state
from torana_server.execution.feed import ALL_EVENTS, EventFilter, Feed, Watch, WatchAll
from torana_server.execution.filters import EVERYTHING, Filter, Operator, Term
from torana_server.execution.ports import (
    TERMINAL_STATES,
    CancelRequest,
    Capabilities,
    Claim,
    Commit,
    ExecutionState,
    ResourceBinder,
    StoredDefinition,
    Summary,
)
from torana_server.execution.request import ExecutionRequest, check_request, request_hash
from torana_server.execution.scheduler import Fact
from torana_server.execution.state import State, StepPhase
from torana_server.execution.views import ExecutionView, StartedExecution
from torana_server.workflow import Plan, RegisteredWorkflow, WorkflowRegistry, from_json, to_json

logger = logging.getLogger("torana.engine")

CLAIM_BATCH = 100
CLAIM_INTERVAL_S = 5.0
"""How often executions without a live owner are looked for."""


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
        self._executors: dict[str, Executor] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._claimed: dict[str, Claim] = {}
        self._places: dict[str, Place] = {}
        self._claimer: asyncio.Task[None] | None = None
        self._stored_revisions: set[str] = set()
        self._draining = False

    async def open(self) -> None:
        """Opens the journal. Executions may start; unfinished ones wait for `go_on`."""
        await self._journal.open(self)

    def go_on(self) -> None:
        """Goes on with unfinished executions, in the background, now and whenever one loses its server."""
        self._claimer = asyncio.create_task(self._claim_for_ever(), name="claim executions")

    async def drain(self, grace_s: float) -> None:
        """Accepts nothing new, lets running steps finish for `grace_s`, gives the rest up and ends every watch."""
        self._draining = True
        if self._claimer is not None:
            self._claimer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._claimer
        for executor in self._executors.values():
            executor.drain()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for claim in self._claimed.values():
            await self._journal.release(claim.summary.execution, claim.fence)
        self._claimed.clear()
        self._feed.close()

    async def close(self) -> None:
        """After `drain`."""
        await self._journal.close()

    @property
    def draining(self) -> bool:
        return self._draining

    # --- starting -----------------------------------------------------------------------------------------------

    async def start(self, principal: Principal, request: ExecutionRequest) -> StartedExecution:
        """Starts an execution, or finds the one the idempotency key belongs to. Durable on return."""
        self._refuse_while_draining()
        check_request(request)
        hashed = request_hash(request) if request.idempotency_key else b""
        try:
            workflow = self._workflows.get(request.workflow, request.revision)
            self._admission.check_queue()
            bindings = self._binder.bind(principal, request.resources, workflow.required_resources)
        except ToranaError:
            # What the key belongs to was accepted once; that it would be refused now changes nothing.
            existing = await self._find(principal, request)
            if existing is None:
                raise
            return _attach(existing, hashed)
        await self._store_definition(workflow)
        accepted = Accepted(
            replace(request, resources=bindings), workflow.revision, principal.tenant, principal.subject
        )
        return await self._begin(workflow.plan, accepted, hashed)

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
        plan = await self._plan(old.accepted.revision)
        accepted = Accepted(request, old.accepted.revision, principal.tenant, principal.subject, execution)
        hashed = request_hash(request) if idempotency_key else b""
        return await self._begin(plan, accepted, hashed, _reused(execution, old))

    async def _begin(
        self, plan: Plan, accepted: Accepted, hashed: bytes, reused: Iterable[Fact] = ()
    ) -> StartedExecution:
        """Goes on to its end when the caller is cancelled: what became durable must be driven."""
        task = asyncio.get_running_loop().create_task(self._create(plan, accepted, hashed, reused))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _create(self, plan: Plan, accepted: Accepted, hashed: bytes, reused: Iterable[Fact]) -> StartedExecution:
        executor = Executor(self._services, new_id(), plan)
        place = Place(accepted.tenant, accepted.request.workflow)
        admitted = self._admission.try_enter(place)
        created = None
        try:
            events = executor.accept(accepted, admitted, reused)
            _check_first_event(len(events[0].data))
            created = await self._journal.create(executor.summary(hashed), events)
        finally:
            if admitted and (created is None or not created.created):
                self._admission.leave(place)
        if not created.created:
            return _attach(created.summary, hashed)
        executor.launch(created.fence)
        self._drive(executor)
        if admitted:
            self._places[executor.execution] = place
        else:
            self._admission.wait(executor.execution, place, lambda: self._admitted(executor, place))
        return StartedExecution(created.summary, attached=False)

    def _admitted(self, executor: Executor, place: Place) -> None:
        self._places[executor.execution] = place
        executor.admitted()

    # --- driving ------------------------------------------------------------------------------------------------

    def _drive(self, executor: Executor) -> None:
        self._executors[executor.execution] = executor
        request = executor.state.accepted.request
        if request.cancel_on_disconnect:
            self._guard.guard(
                executor.execution,
                request.disconnect_grace_s,
                lambda: self._spawn(self._cancel_abandoned(executor.execution)),
            )
        self._spawn(self._run(executor))

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, executor: Executor) -> None:
        execution = executor.execution
        try:
            await executor.run()
        except Exception:  # a task's boundary; the execution is given up and claimed again
            logger.exception("execution %s met a defect of the server and will be recovered", execution)
        finally:
            del self._executors[execution]
            self._guard.forget(execution)
            self._leave(execution)
            self._feed.forget(execution)
        if not executor.durable_state.terminal:
            await self._give_up(execution, executor.fence)

    def _leave(self, execution: str) -> None:
        place = self._places.pop(execution, None)
        if place is None:
            self._admission.give_up(execution)
        else:
            self._admission.leave(place)

    async def _give_up(self, execution: str, fence: int) -> None:
        try:
            await self._journal.release(execution, fence)
        except UnavailableError:
            logger.warning("execution %s could not be released; its lease runs out", execution)

    # --- recovery -----------------------------------------------------------------------------------------------

    async def _claim_for_ever(self) -> None:
        while True:
            try:
                await self._claim_all()
                await self._journal.renew()
            except UnavailableError as error:
                logger.warning("looking for unfinished executions waits for the journal: %s", error)
            await asyncio.sleep(CLAIM_INTERVAL_S)

    async def _claim_all(self) -> None:
        capabilities = Capabilities(self._offers(), JOURNAL_FORMAT)
        claims = [None] * CLAIM_BATCH
        while len(claims) == CLAIM_BATCH:
            claims = await self._journal.claim(CLAIM_BATCH, capabilities)
            for claim in claims:
                self._queue_claim(claim)

    def _queue_claim(self, claim: Claim) -> None:
        summary = claim.summary
        place = Place(summary.tenant, summary.workflow)
        self._claimed[summary.execution] = claim
        self._admission.wait(summary.execution, place, lambda: self._recover(claim, place))

    def _recover(self, claim: Claim, place: Place | None) -> None:
        execution = claim.summary.execution
        del self._claimed[execution]
        if place is not None:
            self._places[execution] = place
        self._spawn(self._recover_and_run(claim))

    async def _recover_and_run(self, claim: Claim) -> None:
        execution = claim.summary.execution
        try:
            executor = Executor(self._services, execution, await self._plan(claim.summary.revision))
            self._executors[execution] = executor
            await executor.recover(claim.fence)
        except (ToranaError, ValueError):
            logger.exception("execution %s cannot be recovered now; it will be tried again", execution)
            self._executors.pop(execution, None)
            self._leave(execution)
            await self._give_up(execution, claim.fence)
            return
        executor.admitted()
        self._drive(executor)

    async def _plan(self, revision: str) -> Plan:
        """The plan of a revision, from the definition that was stored before its first execution."""
        stored = await self._journal.get_definition(revision)
        if stored is None:
            raise UnavailableError(f"the definition of revision {revision[:12]} is not in the journal")
        return self._workflows.compile(from_json(stored.body))

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
        state = self._driven(principal, execution)
        if state is not None:
            latest, ended = state.sequence, state.terminal
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
        state = self._driven(principal, execution)
        if state is None and summary.oldest_sequence <= summary.latest_sequence:
            state = await read_state(self._journal, self._services.codec, execution)
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
        await self._journal.request(execution, CancelRequest(reason, principal.subject))
        return await self._summary(principal, execution)

    async def counts(self) -> dict[str, int]:
        """Executions by state, and what this server drives."""
        counts = {f"executions_{state.lower()}": n for state, n in (await self._journal.count()).items()}
        return counts | {
            "executions_driven": len(self._executors),
            "admission_running": self._admission.running,
            "admission_queued": self._admission.queued,
            "feed_tail_bytes": self._feed.tail_bytes(),
        }

    # --- the journal's listener ---------------------------------------------------------------------------------

    def committed(self, commits: Sequence[Commit]) -> None:
        self._feed.committed(commits)

    def requested(self, execution: str) -> None:
        executor = self._executors.get(execution)
        if executor is not None:
            executor.requested()
            return
        claim = self._claimed.get(execution)
        if claim is not None:
            # It waits for a place, but its command must not.
            self._admission.give_up(execution)
            self._recover(claim, None)

    def failed(self, error: Exception) -> None:
        logger.critical("the journal failed; the server stops so that recovery starts clean: %s", error)
        self._on_fatal(error)

    # --- parts --------------------------------------------------------------------------------------------------

    def _refuse_while_draining(self) -> None:
        if self._draining:
            raise UnavailableError(
                "the server is shutting down; try again, another one will answer",
                reason=Reason.SERVER_DRAINING,
                retry_after_s=1.0,
            )

    async def _summary(self, principal: Principal, execution: str) -> Summary:
        summary = await self._journal.get(execution)
        if summary is None or summary.tenant != principal.tenant:
            raise ExecutionNotFoundError(f"there is no execution {execution!r}", metadata={"execution": execution})
        return summary

    def _driven(self, principal: Principal, execution: str) -> State | None:
        """What is durable of an execution that this server drives; None while it is still being recovered."""
        executor = self._executors.get(execution)
        if executor is None or not executor.launched or executor.state.accepted.tenant != principal.tenant:
            return None
        return executor.durable_state

    async def _find(self, principal: Principal, request: ExecutionRequest) -> Summary | None:
        if not request.idempotency_key:
            return None
        return await self._journal.find(principal.tenant, request.workflow, request.idempotency_key)

    async def _blocked(self, principal: Principal, summaries: Sequence[Summary]) -> Mapping[str, str]:
        """Asked only when there is an execution that could be blocked."""
        driven = self._executors.keys() | self._claimed.keys()
        if all(s.state in TERMINAL_STATES or s.execution in driven for s in summaries):
            return {}
        return await self._journal.blocked(principal.tenant, Capabilities(self._offers(), JOURNAL_FORMAT))

    async def _cancel_abandoned(self, execution: str) -> None:
        if execution in self._executors:
            await self._journal.request(execution, CancelRequest("no caller was attached any more", subject=""))


def _attach(existing: Summary, hashed: bytes) -> StartedExecution:
    if existing.request_hash != hashed:
        raise ConflictError(
            f"the idempotency key belongs to execution {existing.execution} of a different request; "
            "use another key, or send the same request",
            reason=Reason.IDEMPOTENCY_CONFLICT,
            metadata={"execution": existing.execution},
        )
    return StartedExecution(existing, attached=True)


def _check_first_event(size_bytes: int) -> None:
    if size_bytes > EVENT_BYTES_MAX:
        raise InvalidRequestError(
            f"the request takes {size_bytes} bytes, above the limit of {EVENT_BYTES_MAX}; pass references to data",
            reason=Reason.VALUE_TOO_LARGE,
            metadata={"sizeBytes": str(size_bytes), "limitBytes": str(EVENT_BYTES_MAX)},
        )


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
