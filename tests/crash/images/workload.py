"""What a server does to its journal, by seed: real executions, written in groups, with restarts, cancels and claims."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import random
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import apsw

from contract.journal_parts import ANYTHING, Watcher
from crash.images.promises import RecordedLedger
from crash.images.recording_vfs import RecordingVfs
from torana_server.adapters.sqlite import database
from torana_server.adapters.sqlite import journal as journal_module
from torana_server.adapters.sqlite import writer as writer_module
from torana_server.adapters.sqlite.journal import SqliteJournal
from torana_server.adapters.wire import WireCodec
from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.execution.events import Event, StepEmitted
from torana_server.execution.ports import (
    CancelRequest,
    Claim,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
)
from torana_server.execution.state import State, fold

RECORDED: Final = Path(__file__).parents[2] / "journals"
TENANTS: Final = ("acme", "globex")
CHECKPOINT_PAGES: Final = (12, 40, 1_000)
AT_ONCE_MAX: Final = 5
CODEC: Final = WireCodec()
OPTIONS: Final = {"reserve_bytes": 0, "readers": 1}


@functools.cache
def recorded_streams() -> tuple[tuple[Event, ...], ...]:
    """The executions of the recorded journals, as the engine wrote them."""
    streams: dict[str, list[Event]] = {}
    for file in sorted(RECORDED.glob("*/events.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            found = json.loads(line)
            streams.setdefault(found["execution"], []).append(CODEC.decode(base64.b64decode(found["data"])))
    return tuple(tuple(events) for _, events in sorted(streams.items()))


@dataclass(slots=True)
class Piece:
    """What is written at once."""

    events: list[StoredEvent]
    before: State | None
    after: State

    @property
    def transition(self) -> Transition | None:
        assert self.before is not None, "the first piece is a creation"
        if self.before.status is self.after.status:
            return None
        return Transition(self.after.status, self.after.start, self.after.end)


@dataclass(slots=True)
class Script:
    """One execution, piece by piece."""

    execution: str
    tenant: str
    key: str
    pieces: list[Piece]
    fence: int = 0
    sequence: int = 0

    @property
    def running(self) -> bool:
        return bool(self.fence and self.pieces)

    def summary(self) -> Summary:
        state = self.pieces[0].after
        return Summary(
            execution=self.execution,
            tenant=self.tenant,
            workflow=state.accepted.request.workflow,
            revision=state.accepted.revision,
            state=state.status,
            create_time=state.create,
            start_time=state.start,
            labels={"team": "ünïcode"},
            idempotency_key=self.key,
            request_hash=b"\x07" * 32 if self.key else b"",
        )


def stored(execution: str, event: Event) -> StoredEvent:
    return StoredEvent(event.sequence, event.body.kind, event.step, CODEC.encode(execution, event))


def scripts(draw: random.Random, count: int) -> Iterator[Script]:
    """Executions of the recorded streams with ids of their own. Some are long, some never end."""
    for number in range(count):
        events = list(draw.choice(recorded_streams()))
        if draw.random() < 0.3:
            events = with_a_long_event(events, draw)
        if draw.random() < 0.3:
            del events[draw.randrange(1, len(events)) :]
        execution = f"{number:04}-{draw.randrange(1 << 32):08x}"
        key = f"key-{number}" if draw.random() < 0.6 else ""
        yield Script(execution, draw.choice(TENANTS), key, list(pieces(execution, events, draw)))


def with_a_long_event(events: list[Event], draw: random.Random) -> list[Event]:
    """After the first event one that needs several pages."""
    body = StepEmitted("long", Payload(json.dumps("x" * draw.randrange(3_000, 30_000))))
    first, *rest = events
    return [first, Event(2, first.time, "work", 1, body), *(e._replace(sequence=e.sequence + 1) for e in rest)]


def pieces(execution: str, events: Sequence[Event], draw: random.Random) -> Iterator[Piece]:
    state = None
    while events:
        size = draw.randrange(1, 5)
        some, events = events[:size], events[size:]
        after = fold(some, state)
        yield Piece([stored(execution, event) for event in some], state, after)
        state = after


@contextmanager
def recorded(log: list[Any], *, lies_about: str | None = None, synchronous: str | None = None) -> Iterator[str]:
    """Journals that are opened with the VFS of this name write what happens to them into `log`.

    `lies_about` and `synchronous` plant faults: syncs that do not happen, and another setting than FULL.
    """
    vfs = RecordingVfs(log, lies_about=lies_about)
    opened = database.open_writer

    def open_writer(path: Path, name: str | None) -> apsw.Connection:
        connection = opened(path, name)
        if synchronous is not None:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
        return connection

    with ExitStack() as stack:
        stack.callback(vfs.unregister)
        stack.enter_context(patch.object(journal_module, "Ledger", functools.partial(RecordedLedger, log)))
        stack.enter_context(patch.object(journal_module, "open_writer", open_writer))
        yield vfs.name


@dataclass(slots=True)
class Workload:
    draw: random.Random
    folder: Path
    vfs: str
    scripts: list[Script] = field(default_factory=list)
    journal: SqliteJournal = field(init=False)
    pinned: apsw.Connection | None = None

    async def run(self, executions: int) -> None:
        self.scripts = list(scripts(self.draw, executions))
        turns = sum(len(script.pieces) for script in self.scripts)
        restart_at = turns // 2
        with patch.object(writer_module, "CHECKPOINT_PAGES", self.draw.choice(CHECKPOINT_PAGES)):
            await self.open()
            while left := [script for script in self.scripts if script.pieces]:
                if restart_at and sum(len(script.pieces) for script in left) <= restart_at:
                    restart_at = 0
                    await self.restart()
                await self.turn(left)
            await self.close()

    async def open(self) -> None:
        self.journal = SqliteJournal(self.folder, vfs=self.vfs, **OPTIONS)
        await self.journal.open(Watcher())

    async def close(self) -> None:
        self.unpin()
        await self.journal.close()

    async def restart(self) -> None:
        """Gives some up first, as a server that drains does; takes over what is unfinished."""
        for script in self.scripts:
            if script.running and self.draw.random() < 0.5:
                await self.together([self.journal.release(script.execution, script.fence)])
        await self.close()
        await self.open()
        by_id = {script.execution: script for script in self.scripts}
        while claims := await self.claim():
            for claim in claims:
                by_id[claim.summary.execution].fence = claim.fence

    async def claim(self) -> list[Claim]:
        claims = await self.journal.claim(3, ANYTHING)
        await self.together([])
        return claims

    async def turn(self, left: Sequence[Script]) -> None:
        """Several callers at once, each of whom asks for one thing and waits for it."""
        some = self.draw.sample(left, min(len(left), self.draw.randrange(1, AT_ONCE_MAX + 1)))
        others = [script for script in self.scripts if script.running and script not in some]
        new = [script for script in some if not script.fence]
        await self.together([self.define(script) for script in new])
        calls: list[Awaitable[object]] = [self.advance(script) for script in some]
        if others and self.draw.random() < 0.3:
            asked = CancelRequest(f"reason {len(left)}", "ann")
            calls.append(self.journal.request(self.draw.choice(others).execution, asked))
        calls += [self.race(script) for script in new if script.key and self.draw.random() < 0.5]
        await self.together(calls)
        if self.draw.random() < 0.2:
            self.pin()
        elif self.draw.random() < 0.5:
            self.unpin()

    async def together(self, calls: Sequence[Awaitable[object]]) -> None:
        """Waits until the writer has nothing to do any more, its checkpoint included. So it depends on the seed alone
        which writes become one group, and what a reader keeps from the checkpoint."""
        await asyncio.gather(*calls)
        opened = self.journal._opened
        assert opened is not None
        while opened.writer._busy:  # noqa: ASYNC110 — it tells nobody when it rests
            await asyncio.sleep(0)

    async def define(self, script: Script) -> None:
        summary = script.summary()
        body = json.dumps({"name": summary.workflow})
        definition = StoredDefinition(summary.revision, summary.workflow, body, frozenset({"code"}))
        await self.journal.put_definition(definition)

    async def advance(self, script: Script) -> None:
        piece = script.pieces[0]
        expected = script.sequence
        if script.fence:
            await self.journal.append(script.execution, expected, piece.events, script.fence, piece.transition)
        else:
            script.fence = (await self.journal.create(script.summary(), piece.events)).fence
        script.sequence += len(piece.events)
        del script.pieces[0]

    async def race(self, script: Script) -> None:
        """Another caller comes with the key of an execution that is being accepted."""
        late = Script(f"{script.execution}-late", script.tenant, script.key, script.pieces[:1])
        created = await self.journal.create(late.summary(), late.pieces[0].events)
        assert not created.created, "two executions have one key"

    def pin(self) -> None:
        """A reader that keeps checkpoints from finishing."""
        if self.pinned is None:
            flags = apsw.SQLITE_OPEN_READONLY
            self.pinned = apsw.Connection(str(self.folder / "journal.db"), flags=flags, vfs=self.vfs)
            self.pinned.execute("BEGIN; SELECT count(*) FROM events").fetchall()

    def unpin(self) -> None:
        if self.pinned is not None:
            self.pinned.close()
            self.pinned = None


def record(seed: int, folder: Path, executions: int, **faults: Any) -> list[Any]:
    """The log of one run in an empty folder."""
    log: list[Any] = []
    with recorded(log, **faults) as vfs:
        asyncio.run(Workload(random.Random(seed), folder, vfs).run(executions))
    return log


def first_event(execution: str) -> StoredEvent:
    """Of an execution that is accepted."""
    return stored(execution, recorded_streams()[0][0])


def next_event(execution: str, latest: int) -> StoredEvent:
    """One that fits behind any other."""
    body = StepEmitted("after the crash", Payload("1"))
    return stored(execution, Event(latest + 1, Micros(0), "work", 1, body))
