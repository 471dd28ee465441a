"""The promises P1–P10 of the engine, held against everything that happened in a run.

Each is one function that yields a sentence for every time it was broken. They know nothing of how the engine works:
only what clients were told, watchers saw and steps did, and what the journal holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from simulation.clients import UNKNOWN
from simulation.history import Asked, Begun, Committed, Finished, Granted, History, Requested, Saved, Seen, Sent, Told
from torana_server.adapters.wire import WireCodec
from torana_server.core.errors import Reason
from torana_server.core.limits import EVENT_BYTES_MAX
from torana_server.core.values import Payload
from torana_server.execution import TERMINAL_KINDS, TERMINAL_STATES, Event, EventKind, StoredEvent
from torana_server.execution.events import (
    Accepted,
    Cancelling,
    Recovered,
    StepCancelled,
    StepCheckpointed,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepStarted,
)
from torana_server.execution.state import fold
from torana_server.workflow import Definition, Durability

SETTLING: Final = (StepCompleted, StepFailed, StepSkipped, StepCancelled, StepReused)


@dataclass
class Record:
    """A run as the promises read it."""

    history: History
    definitions: dict[str, Definition] = field(default_factory=dict)

    @cached_property
    def events(self) -> dict[str, list[Event]]:
        codec = WireCodec()
        return {e: [codec.decode(stored.data) for stored in events] for e, (_, events) in self.history.journal.items()}

    @cached_property
    def begun(self) -> dict[int, Begun]:
        return {begun.effect: begun for begun in self.history.of(Begun)}

    def durability(self, execution: str) -> Durability:
        return self.definitions[self.history.journal[execution][0].workflow].durability

    def attempts_max(self, execution: str, step: str) -> int:
        definition = self.definitions[self.history.journal[execution][0].workflow]
        own = next(one.retry for one in definition.steps if one.name == step)
        return (own or definition.retry).max_attempts

    def stored(self, execution: str) -> list[StoredEvent]:
        return self.history.journal[execution][1] if execution in self.history.journal else []


def no_event_is_out_before_it_is_durable(record: Record) -> Iterator[str]:
    for sent in record.history.of(Sent):
        if sent.lost:
            yield f"{sent.machine} sent events {sent.lost} of {sent.execution} at {sent.at_s:.3f} s: not durable then"
    for seen in record.history.of(Seen):
        stored = record.stored(seen.execution)
        for event in seen.events:
            if stored[event.sequence - 1 : event.sequence] != [event]:
                yield f"watcher {seen.watcher} saw event {event.sequence} of {seen.execution}: the journal has another"


def what_was_accepted_is_never_lost(record: Record) -> Iterator[str]:
    """It is in the journal, and once nothing fails any more it ends."""
    for told in record.history.of(Told):
        if told.execution and not told.reason and told.execution not in record.history.journal:
            yield f"call {told.call} was told of execution {told.execution}: the journal does not have it"
    for execution, events in record.events.items():
        if not isinstance(events[0].body, Accepted):
            yield f"{execution} begins with {events[0].body.kind.name}"
    for saved in record.history.of(Saved):
        if not saved.recorded:
            yield f"effect {saved.effect} was told that checkpoint {saved.value} is durable: it was not"
    yield from (f"long after the last fault {unfinished}" for unfinished in record.history.unfinished)


def all_watchers_see_one_gapless_order(record: Record) -> Iterator[str]:
    cursors: dict[int, int] = defaultdict(int)
    for seen in record.history.of(Seen):
        where = f"watcher {seen.watcher} of {seen.execution}"
        if seen.after != cursors[seen.watcher]:
            yield f"{where} was at {cursors[seen.watcher]} and got a batch that begins after {seen.after}"
        if seen.through < seen.after:
            yield f"{where} was led back from {seen.after} to {seen.through}"
        cursors[seen.watcher] = seen.through
        wanted = [e for e in record.stored(seen.execution)[seen.after : seen.through] if seen.where.wants(e)]
        if list(seen.events) != wanted:
            got, had = [e.sequence for e in seen.events], [e.sequence for e in wanted]
            yield f"{where} got {got} between {seen.after} and {seen.through}: the journal has {had}"
    for told in record.history.of(Told):
        if told.method == "watch" and told.reason not in UNKNOWN:
            yield f"watcher {told.call} of {told.execution} was refused at its own cursor: {told.reason}"
    for execution, events in record.events.items():
        if [event.sequence for event in events] != list(range(1, len(events) + 1)):
            yield f"the sequence of {execution} is {[event.sequence for event in events]}"
        times = [event.time for event in events]
        if times != sorted(times):
            yield f"the times of {execution} decrease"


def a_completed_step_never_runs_again(record: Record) -> Iterator[str]:
    """Neither in the journal nor in the world, but for what an owner does that does not know yet that it is none."""
    for execution, events in record.events.items():
        settled: dict[str, int] = {}
        for event in events:
            if event.step in settled:
                yield f"{execution}: event {event.sequence} is of {event.step}, which settled in {settled[event.step]}"
            if isinstance(event.body, SETTLING):
                settled[event.step] = event.sequence
    completed: dict[tuple[str, str], int] = {}
    for entry in record.history.entries:
        if isinstance(entry, Committed):
            done = (e for e in entry.events if e.kind in (EventKind.STEP_COMPLETED, EventKind.STEP_REUSED))
            completed |= {(entry.execution, e.step): e.sequence for e in done}
        elif isinstance(entry, Begun) and entry.owned and (entry.execution, entry.step) in completed:
            yield (
                f"{entry.execution}: attempt {entry.attempt} of {entry.step} began on {entry.machine} "
                f"although event {completed[entry.execution, entry.step]} had completed it"
            )


def steps_run_at_least_once_and_are_recorded_once(record: Record) -> Iterator[str]:
    outputs = {finished.output: record.begun[finished.effect] for finished in record.history.of(Finished)}
    for execution, events in record.events.items():
        for event in events:
            if isinstance(event.body, StepCompleted):
                began = outputs.get(event.body.output.json)
                if began is None:
                    yield f"{execution}: event {event.sequence} records an output that {event.step} never gave"
                elif (began.execution, began.step, began.attempt) != (execution, event.step, event.attempt):
                    yield f"{execution}: event {event.sequence} records the output of {began}"
        yield from _attempts_rise(execution, events)
    yield from _attempts_are_as_recorded(record)


def _attempts_rise(execution: str, events: list[Event]) -> Iterator[str]:
    attempts: dict[str, int] = defaultdict(int)
    interrupted: set[str] = set()
    running: set[str] = set()
    for event in events:
        if isinstance(event.body, Recovered):
            interrupted |= running
            running.clear()
        elif isinstance(event.body, StepStarted):
            if event.attempt != attempts[event.step] + 1:
                yield f"{execution}: attempt {event.attempt} of {event.step} follows attempt {attempts[event.step]}"
            if event.step in running:
                yield f"{execution}: attempt {event.attempt} of {event.step} starts while another one runs"
            attempts[event.step] = event.attempt
            running.add(event.step)
            interrupted.discard(event.step)
        elif event.step and event.attempt and not isinstance(event.body, StepReused):
            superseded = event.attempt != attempts[event.step] or event.step in interrupted
            if superseded and not isinstance(event.body, StepCancelled | StepFailed):
                yield f"{execution}: event {event.sequence} is of a superseded attempt of {event.step}"
            if isinstance(event.body, (*SETTLING, StepRetrying)):
                running.discard(event.step)


def _attempts_are_as_recorded(record: Record) -> Iterator[str]:
    """Each ran under the number, key and checkpoint that the journal gives it."""
    runs: set[tuple[str, str, int]] = set()
    for begun in record.begun.values():
        what = f"{begun.execution}: attempt {begun.attempt} of {begun.step} on {begun.machine}"
        if begun.key != f"{begun.execution}/{begun.step}":
            yield f"{what} has the idempotency key {begun.key!r}"
        if begun.execution not in record.history.journal:
            yield f"{what}: the journal does not have that execution"
            continue
        if record.durability(begun.execution) is not Durability.EVERY_STEP:
            continue
        if not begun.recorded:
            yield f"{what} began before its start was durable"
        if (begun.execution, begun.step, begun.attempt) in runs:
            yield f"{what} had run before under the same number"
        runs.add((begun.execution, begun.step, begun.attempt))
        restored = _checkpoint_before(record.events[begun.execution], begun)
        if begun.restored != (None if restored is None else restored.json):
            yield f"{what} was handed checkpoint {begun.restored}: the latest one was {restored}"


def _checkpoint_before(events: list[Event], begun: Begun) -> Payload | None:
    checkpoint = None
    for event in events:
        if event.step == begun.step:
            if isinstance(event.body, StepStarted) and event.attempt == begun.attempt:
                break
            if isinstance(event.body, StepCheckpointed):
                checkpoint = event.body.value
    return checkpoint


def exactly_one_terminal_event_ends_it(record: Record) -> Iterator[str]:
    for execution, (summary, events) in record.history.journal.items():
        ends = [event.sequence for event in events if event.kind in TERMINAL_KINDS]
        ended = summary.state in TERMINAL_STATES
        if ends != [len(events)] and (ends or ended):
            yield f"{execution} is {summary.state}, has {len(events)} events, and ends in {ends}"
        try:
            state = fold(record.events[execution])
        except ValueError as error:
            yield f"{execution} cannot be folded: {error}"
            continue
        if (state.status, state.sequence) != (summary.state, summary.latest_sequence):
            yield f"{execution}: its row says {summary.state} at {summary.latest_sequence}, its events {state.status}"


def one_key_starts_one_execution(record: Record) -> Iterator[str]:
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    for execution, (summary, _) in record.history.journal.items():
        if summary.idempotency_key:
            named[summary.workflow, summary.idempotency_key].add(execution)
    calls = {asked.call: asked for asked in record.history.of(Asked)}
    for told in record.history.of(Told):
        asked = calls.get(told.call)
        if asked is None or not asked.key:
            continue
        known = named[asked.workflow, asked.key]
        if not told.reason or told.reason == Reason.IDEMPOTENCY_CONFLICT:
            known.add(told.execution)
        if not told.reason and told.method == "start":
            parameters = record.events[told.execution][0].body.request.parameters.json  # type: ignore[union-attr]
            if parameters != asked.parameters:
                yield f"call {told.call} asked with {asked.parameters} and was given an execution of {parameters}"
    for (workflow, key), executions in named.items():
        if len(executions) > 1:
            yield f"the key {key!r} of {workflow} started {len(executions)} executions: {sorted(executions)}"


def only_the_fence_holder_writes(record: Record) -> Iterator[str]:
    owners: dict[str, Granted] = {}
    for entry in record.history.entries:
        if isinstance(entry, Granted):
            before = owners.get(entry.execution)
            if before is not None and entry.fence <= before.fence:
                yield f"{entry.execution}: fence {entry.fence} was given after {before.fence}"
            owners[entry.execution] = entry
        elif isinstance(entry, Committed):
            owner = owners[entry.execution]
            if (entry.fence, entry.replica) != (owner.fence, owner.replica):
                yield (
                    f"{entry.execution}: replica {entry.replica} wrote event {entry.events[0].sequence} under fence "
                    f"{entry.fence}; since {owner.at_s:.3f} s replica {owner.replica} owns it under {owner.fence}"
                )


def only_unknown_outcomes_may_have_started_something(record: Record) -> Iterator[str]:
    """UNAVAILABLE and DEADLINE_EXCEEDED say nothing; every other answer is true."""
    calls = {asked.call: asked for asked in record.history.of(Asked)}
    reasons: dict[tuple[str, str], set[str]] = defaultdict(set)
    for told in record.history.of(Told):
        if told.call in calls:
            reasons[calls[told.call].workflow, calls[told.call].key].add(told.reason)
    for execution, (summary, _) in record.history.journal.items():
        said = reasons[summary.workflow, summary.idempotency_key]
        if not said & (UNKNOWN | {""}):
            yield f"{execution} exists although whoever asked for it was told {sorted(said)}"


def the_journal_being_away_is_a_clear_error(record: Record) -> Iterator[str]:
    """No error but those that callers are promised, and nothing that the engine itself calls a defect."""
    allowed = UNKNOWN | {
        "",
        Reason.QUEUE_FULL,
        Reason.IDEMPOTENCY_CONFLICT,
        Reason.EXECUTION_FINISHED,
        Reason.EXECUTION_NOT_FINISHED,
        Reason.WORKFLOW_NOT_FOUND,
        Reason.INVALID_WORKFLOW,
    }
    for told in record.history.of(Told):
        if told.reason not in allowed:
            yield f"{told.method} {told.call} was told {told.reason}"
    yield from (f"the engine met a defect: {defect}" for defect in record.history.defects)


def a_value_that_cannot_be_stored_fails_its_step(record: Record) -> Iterator[str]:
    for execution, (_, stored) in record.history.journal.items():
        for row in stored:
            if len(row.data) > EVENT_BYTES_MAX:
                yield f"{execution}: event {row.sequence} has {len(row.data)} bytes"
    returned = [record.begun[finished.effect] for finished in record.history.of(Finished) if not finished.output]
    too_large = {(began.execution, began.step, began.attempt) for began in returned if began.owned}
    reasons = {Reason.VALUE_TOO_LARGE.value, Reason.STEP_TIMEOUT.value, Reason.STEP_INTERRUPTED.value}
    for execution, events in record.events.items():
        for event in events:
            failed = isinstance(event.body, StepFailed | StepRetrying) and event.body.error.reason
            if failed and (execution, event.step, event.attempt) in too_large and failed not in reasons:
                yield f"{execution}: event {event.sequence} says {failed} of a value that is too large"


def retries_are_neither_early_nor_too_many(record: Record) -> Iterator[str]:
    for execution, events in record.events.items():
        due: dict[str, int] = {}
        failures: Counter[str] = Counter()
        for event in events:
            if isinstance(event.body, StepRetrying):
                due[event.step] = event.body.next_attempt_time
                failures[event.step] += 1
                if failures[event.step] >= record.attempts_max(execution, event.step):
                    yield f"{execution}: {event.step} is tried again after {failures[event.step]} failures"
            elif isinstance(event.body, StepStarted) and event.time < due.pop(event.step, 0):
                yield f"{execution}: attempt {event.attempt} of {event.step} starts before its time"


def a_cancel_that_was_promised_takes_place(record: Record) -> Iterator[str]:
    """Whoever takes an execution over later carries it out first; after it nothing starts."""
    for execution, events in record.events.items():
        cancelling = next((event.sequence for event in events if isinstance(event.body, Cancelling)), None)
        for event in events[cancelling or len(events) :]:
            if isinstance(event.body, StepStarted):
                yield f"{execution}: {event.step} starts in event {event.sequence}, after it was cancelled"
    requested: set[str] = set()
    overdue: set[str] = set()
    for entry in record.history.entries:
        if isinstance(entry, Requested):
            requested.add(entry.execution)
        elif isinstance(entry, Granted) and entry.execution in requested:
            overdue.add(entry.execution)
        elif isinstance(entry, Committed) and entry.execution in overdue:
            overdue.discard(entry.execution)
            requested.discard(entry.execution)
            if not any(event.kind is EventKind.EXECUTION_CANCELLING for event in entry.events) and not any(
                isinstance(event.body, Cancelling)
                for event in record.events[entry.execution][: entry.events[0].sequence]
            ):
                yield f"{entry.execution} was taken over after its cancel was durable, and went on"


Promise = Callable[[Record], Iterator[str]]

PROMISES: Final[dict[str, tuple[Promise, ...]]] = {
    "P1": (no_event_is_out_before_it_is_durable, what_was_accepted_is_never_lost),
    "P2": (all_watchers_see_one_gapless_order,),
    "P3": (a_completed_step_never_runs_again,),
    "P4": (steps_run_at_least_once_and_are_recorded_once, retries_are_neither_early_nor_too_many),
    "P5": (exactly_one_terminal_event_ends_it, a_cancel_that_was_promised_takes_place),
    "P6": (one_key_starts_one_execution,),
    "P7": (only_the_fence_holder_writes,),
    "P8": (only_unknown_outcomes_may_have_started_something,),
    "P9": (the_journal_being_away_is_a_clear_error,),
    "P10": (a_value_that_cannot_be_stored_fails_its_step,),
}


def broken(history: History) -> list[str]:
    """Every promise that this run broke, as `P3 a completed step never runs again: …`."""
    record = Record(history, {definition.name: definition for definition in history.definitions})
    return [
        f"{number} {promise.__name__.replace('_', ' ')}: {what}"
        for number, promises in PROMISES.items()
        for promise in promises
        for what in promise(record)
    ]
