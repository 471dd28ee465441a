"""Does a journal that is opened after a crash keep what was promised? And does work go on in it?"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import apsw

from contract.journal_parts import ANYTHING, DEFINITION, NO_LIMIT, Watcher, summary
from crash.images.promises import Kept, Moment, Promised
from crash.images.workload import CODEC, OPTIONS, TENANTS, first_event, next_event
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.core.errors import StaleAppendError, UnavailableError
from torana_server.execution.events import TERMINAL_KINDS
from torana_server.execution.filters import EVERYTHING
from torana_server.execution.ports import Claim, ExecutionState, StoredEvent
from torana_server.execution.state import State, fold

DATABASE: Final = "journal.db"


class BrokenPromiseError(AssertionError):
    """A promise that was not kept."""


class LostError(BrokenPromiseError):
    """Something that was acknowledged is gone."""


def holds(condition: object, what: str) -> None:
    if not condition:
        raise BrokenPromiseError(what)


async def check(folder: Path, moment: Moment, draw: random.Random, vfs: str | None = None) -> Promised:
    """Opens the journal in `folder` and works with it. Returns what it held. Raises BrokenPromiseError."""
    journal = SqliteJournal(folder, vfs=vfs, **OPTIONS)
    try:
        await journal.open(Watcher())
    except UnavailableError as error:
        raise LostError(f"the journal does not open: {error}") from error
    try:
        found = await contents(journal, moment)
        await check_views(journal, found, draw)
        claims = await go_on(journal, found, moment, draw)
    except UnavailableError as error:
        raise BrokenPromiseError(f"the journal cannot be used: {error}") from error
    finally:
        await journal.close()
    check_file(folder / DATABASE)
    # Whether a claim that was under way counts shows only now.
    fences = {claim.summary.execution: claim.fence - 1 for claim in claims}
    executions = {id_: replace(kept, fence=fences.get(id_, kept.fence)) for id_, kept in found.executions.items()}
    return replace(found, executions=executions)


def check_file(file: Path) -> None:
    with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        said = connection.execute("PRAGMA integrity_check").get
        holds(said == "ok", f"SQLite finds {said}")


async def contents(journal: SqliteJournal, moment: Moment) -> Promised:
    """What the journal holds, which is what was promised, or that and all of the group under way."""
    found = await held(journal, moment.possible.definitions)
    for promised in (moment.possible, moment.promised):
        if visible(promised) == visible(found):
            return promised
    raise complaint(found, moment)


async def held(journal: SqliteJournal, revisions: Iterable[str]) -> Promised:
    """Everything a journal tells, but for fences."""
    executions: dict[str, Kept] = {}
    for tenant in TENANTS:
        by_execution: dict[str, list[StoredEvent]] = {}
        positioned, _ = await journal.read_all(tenant, 0, EVERYTHING, frozenset(), **NO_LIMIT)
        for _, execution, event in positioned:
            by_execution.setdefault(execution, []).append(event)
        for one in await journal.summaries(tenant, EVERYTHING, limit=1_000, before=None):
            commands = await journal.requests(one.execution)
            events = tuple(by_execution.pop(one.execution, ()))
            executions[one.execution] = Kept(one, events, 0, commands[0] if commands else None)
        holds(not by_execution, f"there are events without an execution: {sorted(by_execution)}")
    known = [await journal.get_definition(revision) for revision in revisions]
    return Promised(executions, {definition.revision: definition for definition in known if definition is not None})


def visible(promised: Promised) -> object:
    """What readers see: no fences, and no command of an execution that ended."""
    shown = {
        execution: (kept.summary, kept.events, None if kept.ended else kept.command)
        for execution, kept in promised.executions.items()
    }
    return shown, promised.definitions


def complaint(found: Promised, moment: Moment) -> BrokenPromiseError:
    for execution, kept in moment.promised.executions.items():
        seen = found.executions.get(execution)
        if seen is None:
            return LostError(f"execution {execution} was acknowledged and is gone")
        if seen.events[: len(kept.events)] != kept.events:
            return LostError(
                f"execution {execution} was acknowledged up to event {len(kept.events)} and has {len(seen.events)}"
            )
        if kept.command is not None and not seen.ended and seen.command != kept.command:
            return LostError(f"a request to cancel {execution} was acknowledged and is gone")
    if missing := moment.promised.definitions.keys() - found.definitions.keys():
        return LostError(f"definitions were acknowledged and are gone: {sorted(missing)}")
    return BrokenPromiseError("there is a part of a group of writes, or something that nobody wrote")


async def check_views(journal: SqliteJournal, found: Promised, draw: random.Random) -> None:
    """What is told in several ways is told alike."""
    states = [kept.summary.state for kept in found.executions.values()]
    counts = await journal.count()
    holds(
        counts == {state: states.count(ExecutionState(state)) for state in counts},
        f"the counts are {counts}, there are {states}",
    )
    for execution, kept in found.executions.items():
        check_events(execution, kept)
    for kept in some(found, draw):
        one = kept.summary
        holds(await journal.get(one.execution) == one, f"{one.execution} is listed in another way than it is read")
        events = await journal.read(one.execution, 0, **NO_LIMIT)
        holds(tuple(events) == kept.events, f"the events of {one.execution} are not those of its tenant")
        if one.idempotency_key:
            holder = await journal.find(one.tenant, one.workflow, one.idempotency_key)
            holds(holder == one, f"the key of {one.execution} belongs to {holder}")


def some(found: Promised, draw: random.Random) -> Sequence[Kept]:
    everything = list(found.executions.values())
    return draw.sample(everything, min(3, len(everything)))


def check_events(execution: str, kept: Kept) -> None:
    holds([e.sequence for e in kept.events] == list(range(1, len(kept.events) + 1)), f"{execution} has gaps")
    terminal = [event.sequence for event in kept.events if event.kind in TERMINAL_KINDS]
    holds(terminal == ([len(kept.events)] if kept.ended else []), f"{execution} ends at {terminal}")
    state = folded(tuple(event.data for event in kept.events))
    told = (kept.summary.state, kept.summary.start_time, kept.summary.end_time)
    holds((state.status, state.start, state.end) == told, f"{execution} folds to {state.status}, its row says {told}")


@functools.lru_cache(maxsize=4_096)
def folded(events: tuple[bytes, ...]) -> State:
    """Not to be changed: many images have the same events."""
    return fold(CODEC.decode(data) for data in events)


async def go_on(journal: SqliteJournal, found: Promised, moment: Moment, draw: random.Random) -> list[Claim]:
    """Everything unfinished is taken over and goes on; its owner before does not; keys start nothing again."""
    claims = await claimed(journal, found, moment)
    appends = [
        journal.append(claim.summary.execution, latest, [next_event(claim.summary.execution, latest)], claim.fence)
        for claim in claims
        for latest in [claim.summary.latest_sequence]
    ]
    await asyncio.gather(*appends)
    for claim in claims[:1]:
        await check_old_owner(journal, claim)
    for kept in some(found, draw):
        if kept.summary.idempotency_key:
            again = summary(f"{kept.summary.execution}-again", **same_key(kept))
            created = await journal.create(again, [first_event(again.execution)])
            holds(not created.created, f"the key of {kept.summary.execution} started another execution")
            holds(created.summary.execution == kept.summary.execution, "the key belongs to another execution")
    await journal.put_definition(DEFINITION)
    name = f"fresh-{len(found.executions)}"
    fresh = summary(name, tenant=TENANTS[0], idempotency_key=name)
    created = await journal.create(fresh, [first_event(name)])
    holds(created.created, "no execution can be started")
    holds(await journal.position() >= len(claims) + 1, "the position went back")
    return claims


def same_key(kept: Kept) -> dict[str, object]:
    one = kept.summary
    return {"tenant": one.tenant, "workflow": one.workflow, "idempotency_key": one.idempotency_key}


async def claimed(journal: SqliteJournal, found: Promised, moment: Moment) -> list[Claim]:
    unfinished = {execution for execution, kept in found.executions.items() if not kept.ended}
    claims = await journal.claim(1_000, ANYTHING)
    holds({claim.summary.execution for claim in claims} == unfinished, "not all that is unfinished is taken over")
    for claim in claims:
        execution = claim.summary.execution
        fences = {promised.executions[execution].fence + 1 for promised in moment if execution in promised.executions}
        holds(claim.fence in fences, f"{execution} has fence {claim.fence}, which is none of {fences}")
    return claims


async def check_old_owner(journal: SqliteJournal, claim: Claim) -> None:
    execution, latest = claim.summary.execution, claim.summary.latest_sequence + 1
    events = await journal.read(execution, latest - 1, **NO_LIMIT)
    holds(events == [next_event(execution, latest - 1)], f"an event that follows the crash is not there: {events}")
    try:
        await journal.append(execution, latest, [next_event(execution, latest)], claim.fence - 1)
    except StaleAppendError:
        return
    raise BrokenPromiseError(f"who had {execution} before the crash can still write")
