"""Making events durable, without an executor."""

from __future__ import annotations

import asyncio

import pytest

from simulation.journals import UnreliableJournal
from simulation.virtual_time import EPOCH, simulated
from simulation.world import flow
from torana_server.core.clock import Micros
from torana_server.core.errors import StaleAppendError
from torana_server.core.limits import EVENT_BYTES_MAX
from torana_server.core.values import Payload
from torana_server.execution.appender import Appender
from torana_server.execution.events import Completed, EventKind, StepEmitted
from torana_server.execution.feed import Feed
from torana_server.execution.ports import ExecutionState, StoredEvent, Summary
from torana_server.execution.scheduler import Fact
from torana_server.execution.state import State
from torana_server.workflow import Definition, Durability
from unit.execution.histories import History, plan_of
from unit.execution.test_feed import Listener


class Desk:
    """An appender over an execution `e` whose first events are durable."""

    def __init__(self, definition: Definition) -> None:
        self.history = History.started(plan_of(definition))
        self.written = 0
        self.journal = UnreliableJournal()
        self.found: list[StoredEvent] = []
        self.appender = Appender(self.journal, "e", self.history.plan, self.found.extend)

    async def open(self) -> Desk:
        listener = Listener()
        listener.feed = Feed(self.journal)
        await self.journal.open(listener)
        summary = Summary(
            execution="e",
            tenant="acme",
            workflow="flow",
            revision="r",
            state=ExecutionState.RUNNING,
            create_time=Micros(EPOCH),
        )
        created = await self.journal.create(summary, self.new())
        self.appender.begin(created.fence, self.state)
        return self

    @property
    def state(self) -> State:
        return self.history.current

    def new(self, size: int = 1) -> list[StoredEvent]:
        """What the history says beyond what was taken before."""
        events = self.history.events[self.written :]
        self.written = len(self.history.events)
        return [StoredEvent(e.sequence, e.body.kind, e.step, bytes([e.sequence]) * size) for e in events]

    async def write(self, *, at_once: bool = False, size: int = 1) -> bool:
        return await self.appender.write(self.new(size), self.state, self.history.now, at_once=at_once)

    async def complete(self, *steps: str) -> bool:
        durable = True
        for step in steps:
            self.history.complete(step)
            durable = await self.write()
        return durable


def chain(durability: Durability, steps: int = 1) -> Definition:
    return flow("a", "b", "c", "d", "e", durability=durability, durability_steps=steps)


@simulated
async def test_every_step_is_durable_before_its_successors_start() -> None:
    desk = await Desk(chain(Durability.EVERY_STEP)).open()
    assert await desk.complete("a") is True
    assert [e.kind for e in desk.journal.appended[-1]] == [EventKind.STEP_COMPLETED, EventKind.STEP_STARTED]
    assert desk.appender.durable_sequence == desk.state.sequence


@simulated
async def test_every_n_steps_defers_and_then_writes_all_in_order() -> None:
    desk = await Desk(chain(Durability.EVERY_N_STEPS, 3)).open()
    before = desk.appender.durable_sequence
    assert await desk.complete("a", "b") is False
    assert desk.journal.appends == 0
    assert desk.appender.durable_sequence == before
    assert await desk.complete("c") is True
    assert [e.sequence for e in desk.journal.appended[-1]] == list(range(before + 1, desk.state.sequence + 1))
    assert await desk.complete("d") is False


@simulated
async def test_stage_boundaries_write_when_the_last_step_of_a_level_settles() -> None:
    definition = flow("a", "b", "c", connections=["a>c", "b>c"], durability=Durability.STAGE_BOUNDARIES)
    desk = await Desk(definition).open()
    assert await desk.complete("a") is False
    assert await desk.complete("b") is True


@simulated
async def test_what_is_deferred_is_written_after_a_second_and_not_before() -> None:
    desk = await Desk(chain(Durability.EVERY_N_STEPS, 9)).open()
    await desk.complete("a")
    assert desk.appender.flush_at == desk.history.now + 1_000_000
    desk.history.wait(0.999999)
    assert await desk.write() is False
    desk.history.wait(0.000001)
    assert await desk.write() is True
    assert desk.appender.flush_at is None


@simulated
async def test_an_emission_writes_what_was_deferred_before_it_in_the_same_commit() -> None:
    desk = await Desk(chain(Durability.EVERY_N_STEPS, 9)).open()
    await desk.complete("a")
    desk.history.turn([Fact(StepEmitted("t", Payload("1")), "b", 1)])
    assert await desk.write() is True
    assert [e.kind for e in desk.journal.appended[-1]] == [
        EventKind.STEP_COMPLETED,
        EventKind.STEP_STARTED,
        EventKind.STEP_EMITTED,
    ]


@simulated
async def test_a_cancel_a_retry_and_the_end_are_never_deferred() -> None:
    for happening in ("cancel", "retry", "end"):
        desk = await Desk(flow("a", "b", durability=Durability.EVERY_N_STEPS, durability_steps=9)).open()
        await desk.complete("a")
        if happening == "cancel":
            desk.history.cancel()
        elif happening == "retry":
            desk.history.crash()
        else:
            desk.history.complete("b")
            assert isinstance(desk.history.events[-1].body, Completed)
        assert await desk.write() is True, happening


@simulated
async def test_who_waits_for_durability_is_not_kept_waiting() -> None:
    desk = await Desk(chain(Durability.EVERY_N_STEPS, 9)).open()
    await desk.complete("a")
    assert await desk.write(at_once=True) is True


@simulated
async def test_the_summary_moves_when_the_status_does() -> None:
    desk = await Desk(flow("a")).open()
    desk.history.cancel()
    await desk.write()
    assert (await desk.journal.get("e")).state is ExecutionState.CANCELLING  # type: ignore[union-attr]  # it is there
    desk.history.stop("a")
    await desk.write()
    assert (await desk.journal.get("e")).state is ExecutionState.CANCELLED  # type: ignore[union-attr]  # it is there
    assert desk.appender.ended


@simulated
async def test_an_unavailable_journal_is_waited_for_and_nothing_is_lost_or_doubled() -> None:
    desk = await Desk(flow("a", "b")).open()
    desk.journal.available = False
    writing = asyncio.ensure_future(desk.complete("a"))
    await asyncio.sleep(600)
    assert not writing.done()
    desk.journal.available = True
    await writing
    assert [e.sequence for e in await desk.journal.read("e", 0, limit=99, limit_bytes=10**9)] == [1, 2, 3, 4, 5]
    assert desk.found == []


@simulated
async def test_an_append_whose_answer_was_lost_is_found_and_not_repeated() -> None:
    desk = await Desk(flow("a", "b")).open()
    desk.journal.lost_answers = 1
    desk.journal.outages = 0
    desk.history.complete("a")
    assert await desk.write(size=EVENT_BYTES_MAX) is True
    assert [e.sequence for e in desk.found] == [4, 5]
    assert [e.sequence for e in await desk.journal.read("e", 0, limit=99, limit_bytes=10**9)] == [1, 2, 3, 4, 5]


@simulated
async def test_finding_other_events_in_place_of_its_own_means_that_another_server_writes() -> None:
    desk = await Desk(flow("a", "b")).open()
    desk.journal.outages = 2
    writing = asyncio.ensure_future(desk.complete("a"))
    await asyncio.sleep(0)
    other = [StoredEvent(4, EventKind.EXECUTION_RECOVERED, "", b"other")]
    await super(UnreliableJournal, desk.journal).append("e", 3, other, desk.appender.fence)
    with pytest.raises(StaleAppendError):
        await writing


@simulated
async def test_a_stale_append_is_not_tried_again() -> None:
    desk = await Desk(flow("a", "b")).open()
    desk.journal.stale = True
    with pytest.raises(StaleAppendError):
        await desk.complete("a")
