"""Driving one execution: decide, run, append, fold, decide …

The executor is the only writer of its execution's journal. Everything that happens to the execution (attempts that
end, events that steps write, commands, timers) lands in an inbox; a turn takes the inbox, adds what `decide` makes of
it, appends all of it in one commit, and only then acts on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torana_server.access import Principal
from torana_server.core import logs
from torana_server.core.clock import MICROS_PER_SECOND, Clock, Micros, seconds
from torana_server.core.errors import Reason, StaleAppendError, UnavailableError
from torana_server.core.limits import BATCH_BYTES_MAX
from torana_server.core.values import decode
from torana_server.execution.appender import Appender
from torana_server.execution.attempts import Attempts, Outcome
from torana_server.execution.events import (
    Accepted,
    Body,
    Cancelling,
    Event,
    ExecutionError,
    Failed,
    Recovered,
    Started,
    StepCancelled,
    StepCompleted,
    StepStarted,
)
from torana_server.execution.failures import describe
from torana_server.execution.inbox import Inbox, resolve_all
from torana_server.execution.patience import patiently
from torana_server.execution.ports import EventCodec, ExecutionState, Journal, StoredEvent, Summary
from torana_server.execution.scheduler import (
    NOTHING,
    Fact,
    StopReason,
    attempt_deadline,
    decide,
    on_failure,
    settled_by,
    timeout_error,
)
from torana_server.execution.state import NARRATION, State, begin, fold
from torana_server.steps import StepCall, StepRunner
from torana_server.workflow import Plan, TemplateScope, config_for, inputs_for

logger = logs.logger("execution")

READ_EVENTS = 1_000
"""Events read at a time when a journal is folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every executor shares."""

    journal: Journal
    codec: EventCodec
    clock: Clock
    runner: StepRunner
    redact: Callable[[str], str]
    draw: Callable[[], float]
    """A random number in [0, 1), for jitter."""
    server_id: str
    env: Mapping[str, str]
    """What `${env.NAME}` may read."""
    cancel_grace_s: float = 10.0
    queue_timeout_s: float | None = None
    debugs: Callable[[str], bool] = lambda workflow: False
    """Whether what attempts of this workflow are given and return becomes events. Asked as each attempt starts."""


class Executor:
    """One execution on this server, from its first event (or its recovery) to its terminal event."""

    def __init__(
        self, services: Services, execution: str, plan: Plan, found: Callable[[Sequence[StoredEvent]], None]
    ) -> None:
        """`found`: see Appender."""
        self._services = services
        self._plan = plan
        self._inbox = Inbox()
        self._appender = Appender(services.journal, execution, plan, found)
        self._attempts = Attempts(services.runner, self._inbox, self._call, services.redact, services.cancel_grace_s)
        self._state: State | None = None
        self._decision = NOTHING
        self._starting: list[tuple[str, int]] = []
        self._began: dict[str, Micros] = {}
        """When the latest attempt of each step began here. Its time does not run while it waits for the journal."""
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = Micros(0)
        self._draining = False
        self._disowned = False
        self._scope: TemplateScope | None = None
        self.execution = execution

    def accept(self, accepted: Accepted, admitted: bool, reused: Iterable[Fact] = ()) -> list[StoredEvent]:
        """The events of the first commit. `launch` follows once they are durable."""
        started = [Fact(Started())] if admitted else []
        return self._advance([Fact(accepted), *reused, *started])

    def summary(self, request_hash: bytes) -> Summary:
        """The summary that goes with the first commit."""
        state = self.state
        request = state.accepted.request
        return Summary(
            execution=self.execution,
            tenant=state.accepted.tenant,
            workflow=request.workflow,
            revision=state.accepted.revision,
            state=state.status,
            create_time=state.time,
            start_time=state.start,
            end_time=state.end,
            latest_sequence=state.sequence,
            labels=request.labels,
            session_id=request.session_id,
            idempotency_key=request.idempotency_key,
            request_hash=request_hash,
            retry_of=state.accepted.retry_of,
        )

    def launch(self, fence: int) -> None:
        """The first commit is durable; `run` may follow."""
        self._appender.begin(fence, self.state)

    async def recover(self, fence: int) -> None:
        """Folds the journal and takes the execution over from a server that was lost; `run` may follow."""
        services = self._services
        self._state = await read_state(services.journal, services.codec, self.execution)
        self._inbox.taken_events = self._state.sequence
        self.launch(fence)
        if not self._state.terminal:
            # A cancel that waits comes first, so that nothing starts only to be stopped.
            commands = await self._commands()
            await self._write(self._advance([Fact(Recovered(services.server_id)), *commands]))

    def log_fields(self) -> dict[str, object]:
        tenant = {} if self._state is None else {"tenant": self.tenant}
        return {**tenant, "workflow": self._plan.definition.name, "execution": self.execution}

    @property
    def state(self) -> State:
        assert self._state is not None, "accept or recover comes first"
        return self._state

    @property
    def launched(self) -> bool:
        """Whether there is a durable state yet."""
        return self._appender.durable_sequence > 0

    @property
    def tenant(self) -> str:
        return self.state.accepted.tenant

    @property
    def durable_sequence(self) -> int:
        """The latest event that callers may see (P1)."""
        return self._appender.durable_sequence

    @property
    def ended(self) -> bool:
        """Whether the terminal event is durable."""
        return self._appender.ended

    @property
    def fence(self) -> int:
        return self._appender.fence

    def admitted(self) -> None:
        """The execution holds a place and may start."""
        self._inbox.admitted = True
        self._inbox.wake()

    def requested(self) -> None:
        """A command waits in the journal."""
        self._inbox.requested = True
        self._inbox.wake()

    def drain(self) -> None:
        """Start nothing new; `run` returns once nothing runs."""
        self._draining = True
        self._inbox.wake()

    def disown(self) -> None:
        """Another server drives the execution: `run` returns, having written nothing more."""
        self._disowned = True
        self._inbox.wake()

    async def run(self) -> None:
        """Until the terminal event is durable, ownership is lost, or the server drains and nothing runs."""
        try:
            while not self.state.terminal:
                self._act()
                if self._draining and not self._attempts:
                    await self._write([])  # what a looser durability held back
                    break
                await self._inbox.wait()
                if self._disowned:
                    raise StaleAppendError("the lease of this server ran out")
                await self._write(self._advance(await self._take()))
        except StaleAppendError:
            logger.warning("another server drives the execution now")
        finally:
            self._disarm()
            self._inbox.close()
            for waiter in self._waiting:
                waiter.cancel()
            if self._attempts:
                await self._attempts.end_all()

    def _act(self) -> None:
        """What the last commit allows: attempts start, attempts stop, the timer is set."""
        starting, self._starting = self._starting, []
        for step, number in starting:
            self._began[step] = self._now()
            self._attempts.start(step, number)
        for step, reason in self._decision.stop:
            self._attempts.stop(step, reason)
        self._arm()

    async def _take(self) -> list[Fact]:
        """The facts of this turn, in the order in which they happened to each step."""
        inbox = self._inbox
        commands: list[Fact] = []
        facts, waiting = inbox.take_written()
        self._waiting += waiting
        facts += [fact for outcome in inbox.take_outcomes() for fact in self._settle(outcome)]
        if inbox.requested:
            inbox.requested = False
            commands = await self._commands()
        if self.state.status is ExecutionState.QUEUED and not commands:
            facts += self._leave_queue()
        return facts + commands

    def _advance(self, facts: Sequence[Fact]) -> list[StoredEvent]:
        """Folds `facts` and everything that follows from them; the events to append."""
        stored: list[StoredEvent] = []
        now = self._now()
        # A beginning looks at every step; later turns only at what the settled ones lead to.
        everything = any(isinstance(fact.body, (Started, Recovered)) for fact in facts)
        while True:
            if facts:
                for fact in facts:
                    stored.append(self._add(fact, now))
            touched = None if everything else settled_by(facts, self.state)
            self._decision = decide(
                self._plan, self.state, now, touched=touched, may_start=not self._draining, began=self._began
            )
            facts, everything = self._decision.facts, False
            if not facts:
                return stored
            self._starting += [(fact.step, fact.attempt) for fact in facts if isinstance(fact.body, StepStarted)]

    def _add(self, fact: Fact, now: Micros) -> StoredEvent:
        """Folds the fact as the next event."""
        state = self._state
        sequence = 1 if state is None else state.sequence + 1
        event = Event(sequence, now, fact.step, fact.attempt, fact.body)
        if state is None:
            self._state = begin(event)
        else:
            state.apply(event)
        return StoredEvent(sequence, fact.body.kind, fact.step, self._services.codec.encode(self.execution, event))

    async def _write(self, events: list[StoredEvent]) -> None:
        at_once = self._draining or bool(self._waiting)
        if await self._appender.write(events, self.state, self._now(), at_once=at_once):
            waiting, self._waiting = self._waiting, []
            resolve_all(waiting)

    def _now(self) -> Micros:
        """The clock's time, but never before the latest event."""
        now = self._services.clock.now()
        return now if self._state is None else Micros(max(now, self._state.time))

    def _settle(self, outcome: Outcome) -> list[Fact]:
        if not self._attempts.settle(outcome):
            return []
        attempt = outcome.attempt
        lost = attempt.events.lost()
        bodies = [self._end(outcome)] if lost is None else [lost, self._end(outcome)]
        return [Fact(body, attempt.step, attempt.number) for body in bodies]

    def _end(self, outcome: Outcome) -> Body:
        attempt = outcome.attempt
        if outcome.result is not None:
            return StepCompleted(outcome.result.output, outcome.result.route)
        if attempt.stopping is StopReason.ENDING:
            return StepCancelled("the execution is ending")
        error = self._error(outcome)
        return on_failure(self._plan, self.state, attempt.step, error, self._now(), self._services.draw())

    def _error(self, outcome: Outcome) -> ExecutionError:
        attempt = outcome.attempt
        if attempt.stopping is StopReason.TIMEOUT:
            return timeout_error(self._plan.steps[attempt.step], self.state.step(attempt.step), self._now())
        assert outcome.error is not None
        return describe(outcome.error, attempt.step, attempt.number, self._services.redact)

    async def _commands(self) -> list[Fact]:
        if self.state.cancelling is not None:
            return []
        commands = await patiently(lambda: self._services.journal.requests(self.execution), self.execution)
        return [Fact(Cancelling(command.reason, command.subject)) for command in commands[:1]]

    def _leave_queue(self) -> list[Fact]:
        if self._inbox.admitted:
            return [Fact(Started())]
        deadline = self._queue_deadline()
        if deadline is None or self._now() < deadline:
            return []
        message = f"the execution waited longer than {self._services.queue_timeout_s:g} s for a place"
        error = ExecutionError(type=Reason.QUEUE_TIMEOUT, reason=Reason.QUEUE_TIMEOUT, message=message)
        return [Fact(Failed(error, {}))]

    def _queue_deadline(self) -> Micros | None:
        timeout_s = self._services.queue_timeout_s
        if self.state.status is not ExecutionState.QUEUED or timeout_s is None:
            return None
        return Micros(self.state.create + seconds(timeout_s))

    def _arm(self) -> None:
        """Sets the timer. One that fires too early is harmless, so a later need keeps the earlier timer."""
        times = (self._decision.wake_at, self._appender.flush_at, self._queue_deadline())
        at = min((at for at in times if at is not None), default=None)
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        self._disarm()
        self._timer_at = at
        delay_s = max(0.0, (at - self._services.clock.now()) / MICROS_PER_SECOND)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._inbox.wake()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call(self, name: str, number: int) -> StepCall:
        state, plan = self.state, self._plan
        accepted, request = state.accepted, state.accepted.request
        step, planned = state.step(name), plan.steps[name]
        scope = self._template_scope(accepted)
        context = decode(request.context)
        assert isinstance(context, dict), "checked when the request was accepted"
        return StepCall(
            principal=Principal(accepted.tenant, accepted.subject),
            execution=self.execution,
            workflow=request.workflow,
            revision=accepted.revision,
            step=planned.step,
            attempt=number,
            config=config_for(plan, name, scope, state.outcomes),
            inputs=inputs_for(plan, name, scope, state.outcomes),
            context=context,
            bindings=request.resources,
            deadline=attempt_deadline(planned, step, self._began[name]),
            idempotency_key=f"{self.execution}/{name}",
            restored=step.checkpoint,
            debug=self._services.debugs(request.workflow),
        )

    def _template_scope(self, accepted: Accepted) -> TemplateScope:
        if self._scope is None:
            request = accepted.request
            session = {
                "tenant_id": accepted.tenant,
                "user_id": accepted.subject,
                "session_id": request.session_id,
            }
            self._scope = TemplateScope(request.parameters, request.context, session, self._services.env)
        return self._scope


async def read_state(journal: Journal, codec: EventCodec, execution: str) -> State:
    """The state an execution's journal tells. Raises UnavailableError for one that is damaged or missing."""
    state: State | None = None
    position = 0
    while True:
        stored = await journal.read(execution, position, limit=READ_EVENTS, limit_bytes=BATCH_BYTES_MAX)
        if not stored:
            break
        position = stored[-1].sequence
        # The last event is folded whatever it is, so that the sequence is right.
        try:
            events = [codec.decode(e.data) for e in stored if e.kind not in NARRATION or e is stored[-1]]
            state = fold(events, state, gapless=False)
        except ValueError as error:
            raise _unreadable(execution, str(error)) from error
    if state is None:
        raise _unreadable(execution, "it has no events")
    return state


def _unreadable(execution: str, why: str) -> UnavailableError:
    return UnavailableError(
        f"the journal of execution {execution} cannot be read: {why}; restore it, or run a server that knows it",
        metadata={"execution": execution},
    )
