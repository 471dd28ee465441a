"""Random plans, and what may happen to an execution of one: everything but the outside, which a test draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from simulation.world import Catalog
from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.execution.events import (
    Accepted,
    Body,
    Cancelling,
    Event,
    ExecutionError,
    Recovered,
    Started,
    StepCancelled,
    StepCheckpointed,
    StepCompleted,
    StepProgress,
)
from torana_server.execution.request import ExecutionRequest
from torana_server.execution.scheduler import (
    Fact,
    StopReason,
    decide,
    on_failure,
    settled_by,
    timeout_error,
)
from torana_server.execution.state import State, StepPhase, fold
from torana_server.workflow import (
    Connection,
    Definition,
    Durability,
    Plan,
    RetryPolicy,
    Step,
    StepTimeout,
    compile_plan,
)

NOW = Micros(1_767_225_600_000_000)
ROUTES = ("left", "right")
RETRIES = RetryPolicy(max_attempts=3, initial_interval_s=1.0, jitter=0.5, never_retry_on=("Never",))


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    """Up to six steps, any connection forward, switches, error routes, templates that order, timeouts and retries."""
    count = draw(st.integers(1, 6))
    switches = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    names = [f"s{index}" for index in range(count)]
    connections = []
    for target in range(1, count):
        for source in range(target):
            if draw(st.booleans()):
                routes = ["", "error", *(ROUTES if switches[source] else ())]
                connections.append(
                    Connection(from_step=names[source], to_step=names[target], route=draw(st.sampled_from(routes)))
                )
    steps = tuple(
        Step(
            name=name,
            type="switch" if switches[index] else "work",
            config={"routes": list(ROUTES)} if switches[index] else {},
            inputs={"read": f"{{{{{draw(st.sampled_from(names[:index]))}}}}}"} if index and draw(st.booleans()) else {},
            retry=draw(st.sampled_from([None, RETRIES])),
            timeout=StepTimeout(attempt_s=30, total_s=draw(st.sampled_from([None, 60.0]))),
        )
        for index, name in enumerate(names)
    )
    timeout_s = draw(st.sampled_from([None, 50.0]))
    return Definition(
        name="random",
        steps=steps,
        connections=tuple(connections),
        timeout_s=timeout_s,
        durability=draw(st.sampled_from(Durability)),
        durability_steps=2,
    )


def plan_of(definition: Definition) -> Plan:
    return compile_plan(definition, Catalog())


def accepted(**fields: object) -> Accepted:
    request = ExecutionRequest(workflow="random", **fields)  # type: ignore[arg-type]  # the test's own fields
    return Accepted(request, "revision", "acme", "ann")


def error(kind: str = "Boom", *, retryable: bool = True) -> ExecutionError:
    return ExecutionError(type=kind, message="it broke", reason="STEP_FAILED", retryable=retryable)


@dataclass
class History:
    """An execution without a server: a turn folds facts, and everything that `decide` makes of them."""

    plan: Plan
    now: Micros = NOW
    events: list[Event] = field(default_factory=list)
    state: State | None = None
    wake_at: Micros | None = None
    stopping: dict[str, StopReason] = field(default_factory=dict)

    @classmethod
    def started(cls, plan: Plan, **request: object) -> History:
        history = cls(plan)
        history.turn([Fact(accepted(**request)), Fact(Started())])
        return history

    @property
    def current(self) -> State:
        assert self.state is not None
        return self.state

    def turn(self, facts: Iterable[Fact], *, may_start: bool = True) -> None:
        facts = list(facts)
        everything = any(isinstance(fact.body, Started | Recovered) for fact in facts)
        while True:
            self._fold(facts)
            touched = None if everything else settled_by(facts, self.current)
            decision = decide(self.plan, self.current, self.now, touched=touched, may_start=may_start)
            facts, everything = list(decision.facts), False
            if not facts:
                break
        self.wake_at = decision.wake_at
        for step, reason in decision.stop:
            self.stopping.setdefault(step, reason)

    def _fold(self, facts: Sequence[Fact]) -> None:
        first = len(self.events) + 1
        new = [Event(first + i, self.now, fact.step, fact.attempt, fact.body) for i, fact in enumerate(facts)]
        self.events += new
        if new:
            self.state = fold(new, self.state)

    def running(self) -> list[str]:
        return [name for name in self.plan.order if self.current.step(name).phase is StepPhase.RUNNING]

    def settle(self, step: str, body: Body) -> None:
        self.stopping.pop(step, None)
        self.turn([Fact(body, step, self.current.step(step).attempt)])

    def complete(self, step: str, route: str = "") -> None:
        self.settle(step, StepCompleted(Payload("{}"), route))

    def fail(self, step: str, failure: ExecutionError, draw: float = 0.0) -> None:
        self.settle(step, on_failure(self.plan, self.current, step, failure, self.now, draw))

    def stop(self, step: str) -> None:
        """The attempt ends as it was asked to."""
        if self.stopping[step] is StopReason.ENDING:
            self.settle(step, StepCancelled("the execution is ending"))
        else:
            self.fail(step, timeout_error(self.plan.steps[step], self.current.step(step), self.now))

    def cancel(self) -> None:
        if self.current.cancelling is None:
            self.turn([Fact(Cancelling("enough", "ann"))])

    def crash(self) -> None:
        self.stopping.clear()
        self.turn([Fact(Recovered("server-2"))])

    def narrate(self, step: str) -> None:
        attempt = self.current.step(step).attempt
        saved = StepCheckpointed(Payload(str(len(self.events))))
        self.turn([Fact(StepProgress(0.5), step, attempt), Fact(saved, step, attempt)])

    def wait(self, duration_s: float) -> None:
        self.now = Micros(self.now + round(duration_s * 1_000_000))
        self.turn([])

    def wait_until_due(self) -> None:
        assert self.wake_at is not None, f"nothing runs and no time will change that: {self.current}"
        self.now = self.wake_at
        self.turn([])

    def finish(self) -> None:
        """Whatever happened, a server that works brings it to its end."""
        for _ in range(100):
            if self.current.terminal:
                return
            running = self.running()
            if not running:
                self.wait_until_due()
            elif running[0] in self.stopping:
                self.stop(running[0])
            else:
                self.complete(running[0], ROUTES[0] if self.is_switch(running[0]) else "")
        raise AssertionError("the execution does not end")

    def is_switch(self, step: str) -> bool:
        return self.plan.steps[step].step.type == "switch"


def happen(history: History, data: st.DataObject) -> None:
    """One random thing."""
    running = history.running()
    actions = ["cancel", "crash", "wait", "wait"] + ["complete", "complete", "fail", "narrate"] * bool(running)
    action = data.draw(st.sampled_from(actions))
    step = data.draw(st.sampled_from(running)) if running else ""
    if action == "complete":
        history.complete(step, data.draw(st.sampled_from(ROUTES)) if history.is_switch(step) else "")
    elif action == "fail":
        kind = data.draw(st.sampled_from(["Boom", "Boom", "Never"]))
        history.fail(step, error(kind, retryable=data.draw(st.booleans())), data.draw(st.floats(0, 0.99)))
    elif action == "narrate":
        history.narrate(step)
    elif action == "wait":
        history.wait(data.draw(st.sampled_from([0.5, 1.0, 20.0, 30.0, 40.0])))
        for stopped in list(history.stopping):
            if data.draw(st.booleans()):
                history.stop(stopped)
    elif action == "crash":
        history.crash()
    elif action == "cancel" and data.draw(st.integers(0, 3)) == 0:
        history.cancel()


def random_history(data: st.DataObject) -> History:
    history = History.started(plan_of(data.draw(definitions())))
    for _ in range(data.draw(st.integers(0, 12))):
        if history.current.terminal:
            break
        happen(history, data)
    history.finish()
    return history
