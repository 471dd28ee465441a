"""The executions of this server: who runs, who waits for a place, who is being recovered, and how all of it ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torana_server.core import logs
from torana_server.core.clock import MICROS_PER_SECOND, idle, seconds
from torana_server.core.errors import InvalidRequestError, Reason, StaleAppendError, ToranaError, UnavailableError
from torana_server.core.ids import new_id
from torana_server.core.limits import EVENT_BYTES_MAX
from torana_server.execution.admission import Admission, Place
from torana_server.execution.disconnect import DisconnectGuard
from torana_server.execution.events import JOURNAL_FORMAT, Accepted
from torana_server.execution.executor import Executor, Services
from torana_server.execution.feed import Feed
from torana_server.execution.patience import patiently
from torana_server.execution.ports import (
    FIRST_FENCE,
    CancelRequest,
    Capabilities,
    Claim,
    Created,
    ExecutionState,
    StoredEvent,
)
from torana_server.execution.scheduler import Fact
from torana_server.workflow import Plan, WorkflowRegistry, from_json

logger = logs.logger("execution")

CLAIM_BATCH = 100
PLANS_KEPT = 100
"""Compiled revisions of executions that are recovered or retried. Others are compiled again from the journal."""
CLAIM_INTERVAL_S = 5.0
"""How often leases are renewed and executions without a live owner are looked for."""


class _GivenUp(NamedTuple):
    """An execution that could not go on here. It is not released at once, or this server and others would claim it
    again and again without a pause."""

    execution: str
    fence: int
    release_at: float
    """By the loop's clock."""


class Driving:
    """Owns the executors. An execution is in exactly one of their hands, in the hands of a claim, or nobody's here."""

    def __init__(
        self,
        services: Services,
        workflows: WorkflowRegistry,
        feed: Feed,
        guard: DisconnectGuard,
        admission: Admission,
        offers: Callable[[], frozenset[str]],
    ) -> None:
        self._services = services
        self._journal = services.journal
        self._workflows = workflows
        self._feed = feed
        self._guard = guard
        self._admission = admission
        self._offers = offers
        self._executors: dict[str, Executor] = {}
        self._places: dict[Executor, Place] = {}
        self._claimed: dict[str, Claim] = {}
        self._wait_limits: dict[str, asyncio.TimerHandle] = {}
        """When claimed executions that have not started yet have waited for as long as they may."""
        self._given_up: list[_GivenUp] = []
        self._plans: dict[str, Plan] = {}
        """Of revisions that came from the journal, the least recently used first."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._claimer: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self.draining = False

    def __len__(self) -> int:
        return len(self._executors)

    def __contains__(self, execution: str) -> bool:
        return execution in self._executors or execution in self._claimed

    def executor(self, execution: str) -> Executor | None:
        """Who drives an execution here; None while it is still being recovered."""
        executor = self._executors.get(execution)
        return executor if executor is not None and executor.launched else None

    # --- new executions -----------------------------------------------------------------------------------------

    async def begin(self, plan: Plan, accepted: Accepted, hashed: bytes, reused: Iterable[Fact] = ()) -> Created:
        """Creates an execution and drives it, unless its key belongs to one already.

        Goes on to its end when the caller is cancelled: what became durable must be driven. Raises ExhaustedError,
        InvalidRequestError (VALUE_TOO_LARGE), UnavailableError.
        """
        task = self._spawn(self._create(plan, accepted, hashed, reused))
        try:
            created: Created = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise shutting_down() from None
            task.add_done_callback(_hear_for_nobody)
            raise
        return created

    async def _create(self, plan: Plan, accepted: Accepted, hashed: bytes, reused: Iterable[Fact]) -> Created:
        executor = self._executor(new_id(), plan)
        logs.enter(executor)
        place = Place(accepted.tenant, accepted.request.workflow)
        admitted = self._admission.enter(place)
        kept = False
        try:
            events = executor.accept(accepted, admitted, reused)
            _check_first_event(len(events[0].data))
            try:
                created = await self._journal.create(executor.summary(hashed), events)
            except UnavailableError:
                kept = True
                self._spawn(self._find_out(executor, place, admitted, events))
                raise
            kept = created.created
        finally:
            if not kept:
                self._admission.withdraw(place, admitted=admitted)
        if created.created:
            self._launch(executor, place, admitted, created.fence)
        return created

    async def _find_out(self, executor: Executor, place: Place, admitted: bool, events: Sequence[StoredEvent]) -> None:
        """The journal could not say whether it created the execution; if it did, the execution must be driven."""
        execution = executor.execution
        logs.enter(executor)
        owned = False
        try:
            if await patiently(lambda: self._journal.get(execution), execution) is not None:
                self._feed.found(execution, events)
                owned = executor.state.terminal or await self._is_owned(execution, len(events))
        finally:
            if not owned:
                self._admission.withdraw(place, admitted=admitted)
                self._feed.forget(execution)
        if owned:
            self._launch(executor, place, admitted, FIRST_FENCE)

    async def _is_owned(self, execution: str, sequence: int) -> bool:
        """Whether a new execution is still this server's: its lease may have run out since it was created."""
        try:
            await patiently(lambda: self._journal.append(execution, sequence, [], FIRST_FENCE), execution)
        except StaleAppendError:
            return False
        return True

    def _launch(self, executor: Executor, place: Place, admitted: bool, fence: int) -> None:
        executor.launch(fence)
        self._drive(executor, place if admitted else None)
        if not admitted:
            self._admission.wait(executor.execution, place, partial(self._admit, executor, place), has_seat=True)

    def _admit(self, executor: Executor, place: Place) -> None:
        self._places[executor] = place
        executor.admitted()

    # --- driving ------------------------------------------------------------------------------------------------

    def _executor(self, execution: str, plan: Plan) -> Executor:
        executor = Executor(self._services, execution, plan, partial(self._feed.found, execution))
        if self.draining:
            executor.drain()
        return executor

    def _drive(self, executor: Executor, place: Place | None) -> None:
        execution = executor.execution
        self._executors[execution] = executor
        if place is not None:
            self._places[executor] = place
        if self.draining:
            executor.drain()
        request = executor.state.accepted.request
        if request.cancel_on_disconnect:
            self._guard.guard(
                execution,
                request.disconnect_grace_s,
                partial(self._abandoned, execution),
                attached=self._feed.watchers(execution),
            )
        self._spawn(self._run(executor))

    def _spawn(self, coroutine: Coroutine[None, None, Any]) -> asyncio.Task[Any]:
        """A task that `drain` waits for. It outlives its caller, so it carries nothing of the caller's context."""
        task = asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, executor: Executor) -> None:
        failed = False
        logs.enter(executor)
        try:
            await executor.run()
        except Exception:  # a task's boundary; the execution is given up and claimed again
            failed = True
            logger.exception("the execution met a defect of the server and will be recovered")
        finally:
            self._forget(executor)
            if executor.ended:
                _log_end(executor)
            else:
                await self._give_up(executor.execution, executor.fence, later=failed)

    def _forget(self, executor: Executor) -> None:
        execution = executor.execution
        if self._executors.get(execution) is executor:
            del self._executors[execution]
            self._guard.forget(execution)
            self._feed.forget(execution)
        place = self._places.pop(executor, None)
        if place is None:
            self._admission.give_up(execution)
        else:
            self._admission.leave(place)

    async def _give_up(self, execution: str, fence: int, *, later: bool) -> None:
        """Lets another server, or this one once more, have the execution."""
        if not later or self.draining:
            try:
                await self._journal.release(execution, fence)
                return
            except UnavailableError:
                logger.warning("the execution could not be released yet", extra={"execution": execution})
        self._keep_from_others(execution, fence)

    def _keep_from_others(self, execution: str, fence: int) -> None:
        """For a while."""
        release_at = asyncio.get_running_loop().time() + CLAIM_INTERVAL_S
        self._given_up.append(_GivenUp(execution, fence, release_at))

    def _abandoned(self, execution: str) -> None:
        command = CancelRequest("no caller was attached any more", subject="")
        self._spawn(patiently(lambda: self._journal.request(execution, command), execution))

    def requested(self, execution: str) -> None:
        """A command waits in the journal."""
        executor = self._executors.get(execution)
        if executor is not None:
            executor.requested()
            return
        claim = self._claimed.get(execution)
        if claim is not None:
            # It waits for a place, but its command must not.
            self._recover_without_place(claim)

    # --- recovery -----------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Goes on with unfinished executions, in the background, now and whenever one loses its server."""
        self._claimer = asyncio.get_running_loop().create_task(self._claim_for_ever(), name="claim executions")

    def look_now(self) -> None:
        """There may be something to claim: a new function or step type, or a server that is gone."""
        self._look_now.set()

    def disowned(self) -> None:
        """Other servers drive what this one drove: what runs here stops, and nothing of it is written."""
        for executor in list(self._executors.values()):
            executor.disown()
        for execution in list(self._claimed):
            self._admission.give_up(execution)
            self._take_claim(execution)

    async def _claim_for_ever(self) -> None:
        """Also while the server drains: what still runs needs its lease."""
        while True:
            self._look_now.clear()
            try:
                await self._journal.renew()
                await self._claim_all()
            except UnavailableError as error:
                logger.warning("looking for unfinished executions waits for the journal: %s", error)
            except Exception:  # a task's boundary: without it no lease would be renewed any more
                logger.exception("looking for unfinished executions failed; it goes on")
            with idle(), contextlib.suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it drops a cancellation that comes together with the event.
                async with asyncio.timeout(CLAIM_INTERVAL_S):
                    await self._look_now.wait()

    async def _claim_all(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [given_up for given_up in self._given_up if given_up.release_at <= now]
        self._given_up = [given_up for given_up in self._given_up if given_up.release_at > now]
        for given_up in due:
            await self._give_up(given_up.execution, given_up.fence, later=False)
        capabilities = Capabilities(self._offers(), JOURNAL_FORMAT)
        while not self.draining:
            claims = await self._journal.claim(CLAIM_BATCH, capabilities)
            if claims:
                logger.info("took over unfinished executions: %d", len(claims))
            for claim in claims:
                self._queue_claim(claim)
            if len(claims) < CLAIM_BATCH:
                return

    def _queue_claim(self, claim: Claim) -> None:
        summary = claim.summary
        if summary.execution in self._executors:
            # It was lost and came back before its steps here have ended. They must not run twice in one process.
            self._keep_from_others(summary.execution, claim.fence)
            return
        place = Place(summary.tenant, summary.workflow)
        self._claimed[summary.execution] = claim
        self._admission.wait(summary.execution, place, partial(self._recover, claim, place), has_seat=False)
        if summary.execution in self._claimed:
            self._limit_wait(claim)

    def _limit_wait(self, claim: Claim) -> None:
        """One that had started already has left the queue for good, whatever it waits for now."""
        timeout_s = self._services.queue_timeout_s
        if timeout_s is None or claim.summary.state is not ExecutionState.QUEUED:
            return
        left = claim.summary.create_time + seconds(timeout_s) - self._services.clock.now()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, left / MICROS_PER_SECOND), self._recover_without_place, claim)
        self._wait_limits[claim.summary.execution] = timer

    def _recover_without_place(self, claim: Claim) -> None:
        """Something is to be written to its journal: it was cancelled, or has waited for as long as it may."""
        if not self.draining:
            self._admission.give_up(claim.summary.execution)
            self._recover(claim, None)

    def _recover(self, claim: Claim, place: Place | None) -> None:
        if self.draining:
            return  # it stays among the claimed, which the end of the drain gives back
        self._take_claim(claim.summary.execution)
        self._spawn(self._recover_and_drive(claim, place))

    def _take_claim(self, execution: str) -> None:
        del self._claimed[execution]
        timer = self._wait_limits.pop(execution, None)
        if timer is not None:
            timer.cancel()

    async def _recover_and_drive(self, claim: Claim, place: Place | None) -> None:
        execution = claim.summary.execution
        recovered = False
        try:
            executor = self._executor(execution, await self.plan(claim.summary.revision))
            self._executors[execution] = executor
            logs.enter(executor)
            await executor.recover(claim.fence)
            recovered = True
            logger.debug("the execution goes on here")
        except StaleAppendError:
            logger.warning("another server recovers the execution", extra={"execution": execution})
        except Exception:  # a task's boundary; one that cannot be read must not hold up the others
            extra = {"execution": execution}
            logger.exception("the execution cannot be recovered now; it will be tried again", extra=extra)
        finally:
            if not recovered:
                self._executors.pop(execution, None)
                self._feed.forget(execution)
                if place is not None:
                    self._admission.leave(place)
                await self._give_up(execution, claim.fence, later=True)
        if recovered:
            self._drive(executor, place)
            if place is not None or executor.state.status is not ExecutionState.QUEUED:
                executor.admitted()
            else:
                place = Place(claim.summary.tenant, claim.summary.workflow)
                self._admission.wait(execution, place, partial(self._admit, executor, place), has_seat=False)

    async def plan(self, revision: str) -> Plan:
        """The plan of a revision, from the definition that was stored before its first execution.

        Raises UnavailableError when it is not there, InvalidWorkflowError when this server cannot run it.
        """
        plan = self._plans.get(revision)
        if plan is None:
            stored = await self._journal.get_definition(revision)
            if stored is None:
                raise UnavailableError(f"the definition of revision {revision[:12]} is not in the journal")
            plan = self._workflows.compile(from_json(stored.body))
        self._plans.pop(revision, None)
        self._plans[revision] = plan
        if len(self._plans) > PLANS_KEPT:
            del self._plans[next(iter(self._plans))]
        return plan

    # --- the end ------------------------------------------------------------------------------------------------

    async def drain(self, grace_s: float) -> None:
        """Starts nothing new, lets what runs finish for `grace_s`, then gives everything up."""
        self.draining = True
        for executor in self._executors.values():
            executor.drain()
        await self._finish(grace_s)
        if self._claimer is not None:
            self._claimer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._claimer
        for timer in self._wait_limits.values():
            timer.cancel()
        self._wait_limits.clear()
        claimed = [(claim.summary.execution, claim.fence) for claim in self._claimed.values()]
        given_up, self._given_up = [(one.execution, one.fence) for one in self._given_up], []
        self._claimed.clear()
        for execution, fence in claimed + given_up:
            await self._give_up(execution, fence, later=False)

    async def _finish(self, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        # What finishes may leave more to do: a creation leaves an execution.
        while self._tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _log_end(executor: Executor) -> None:
    state = executor.state
    level = logging.INFO if state.error is not None else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, object] = {"state": state.status.value}
    if state.end is not None and state.start is not None:
        fields["duration_ms"] = (state.end - state.start) / 1_000
    if state.error is not None:
        fields |= {"reason": state.error.reason, "step": state.error.step, "error_type": state.error.type}
        logger.info("the execution %s: %s", state.status.value.lower(), state.error, extra=fields)
    else:
        logger.debug("the execution ended", extra=fields)


def _hear_for_nobody(task: asyncio.Task[Any]) -> None:
    """The caller has gone, so a refusal interests nobody; a defect still does."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, ToranaError):
        logger.error("an execution whose caller has gone could not be created", exc_info=error)


def shutting_down() -> UnavailableError:
    return UnavailableError(
        "the server is shutting down; try again, another one will answer",
        reason=Reason.SERVER_DRAINING,
        retry_after_s=1.0,
    )


def _check_first_event(size_bytes: int) -> None:
    if size_bytes > EVENT_BYTES_MAX:
        raise InvalidRequestError(
            f"the request takes {size_bytes} bytes, above the limit of {EVENT_BYTES_MAX}; pass references to data",
            reason=Reason.VALUE_TOO_LARGE,
            metadata={"sizeBytes": str(size_bytes), "limitBytes": str(EVENT_BYTES_MAX)},
        )
