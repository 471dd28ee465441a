"""The Journal port of one simulated replica: its way to the database, over a network that fails.

As with PostgreSQL, one group of writes is under way at a time and everything that gathers meanwhile is the next. When
the connection is lost the group is in doubt: it may be written a while later, or never, but before a new connection
answers anything that is decided. In an embedded journal a lost group is a failed fsync: the process must stop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from simulation.database import LEASE_S, Database, GoneError
from simulation.history import Fault, History
from simulation.machines import Machine, Universe
from simulation.network import Group, Waiting, Weather, Write, gone, refuse, settle
from torana_server.adapters.journal_rules import (
    check_gapless,
    event_bytes,
    positioned_bytes,
    reached,
    within_bytes,
)
from torana_server.core.errors import ConflictError, StaleAppendError, UnavailableError
from torana_server.execution.events import EventKind
from torana_server.execution.filters import Filter, matches
from torana_server.execution.ports import (
    CancelRequest,
    Capabilities,
    Claim,
    Commit,
    Created,
    ExecutionState,
    JournalListener,
    PositionedEvent,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
)

Answer = TypeVar("Answer")
POLL_S: Final = 1.0
SLOW_S: Final = 3.0


class SimulatedJournal:
    """See the module. `dies_at_commit` is "before", "during" or "after" when the process is to die around the next
    commit; `loses_claim` when it is not to hear of what it claims next."""

    kind = "simulated"
    durable = True

    def __init__(
        self,
        universe: Universe,
        machine: Machine,
        database: Database,
        history: History,
        weather: Weather,
        *,
        embedded: bool,
    ) -> None:
        self._universe = universe
        self._chance = universe.chance
        self._machine = machine
        self._database = database
        self._history = history
        self._weather = weather
        self._embedded = embedded
        self._listener: JournalListener | None = None
        self._connected = False
        self._failed = False
        self._connection = 0
        self._gathered: list[Waiting] = []
        self._owned: set[str] = set()
        """Executions that this process knows to be its own."""
        self._group: Group | None = None
        self._reads: dict[asyncio.Future[Any], None] = {}
        self._hints: dict[str, Commit] = {}
        self.replica = 0
        self.dies_at_commit = ""
        self.loses_claim = False

    # --- opening and closing ------------------------------------------------------------------------------------

    async def open(self, listener: JournalListener) -> None:
        await asyncio.sleep(self._latency_s())
        if self._away():
            raise gone()
        if self._embedded:
            self._database.disown_all()
        self._listener = listener
        self.replica = self._database.join()
        self._database.subscribers.append(self)
        self._connected = True
        self._machine.call_later(POLL_S, self._poll)
        self._machine.call_later(LEASE_S / 3, self._renew)

    async def close(self) -> None:
        with contextlib.suppress(UnavailableError):
            await self._write(lambda: (None, None))  # after it, all that was there before is written
        self._connected, self._failed = False, True
        self._database.leave(self.replica)

    def buried(self) -> None:
        """The process has died."""
        if self in self._database.subscribers:
            self._database.subscribers.remove(self)

    # --- writing ------------------------------------------------------------------------------------------------

    async def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        check_gapless(0, events)
        created: Created = await self._write(lambda: self._database.create(self._extended(), summary, events))
        return created

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        check_gapless(expected_sequence, events)
        append = self._database.append
        await self._write(
            lambda: (None, append(self._extended(), execution, expected_sequence, events, fence, transition))
        )

    async def claim(self, limit: int, capabilities: Capabilities) -> list[Claim]:
        claim = self._database.claim
        claims: list[Claim] = await self._write(lambda: (claim(self.replica, limit, capabilities), None))
        return claims

    async def release(self, execution: str, fence: int) -> None:
        def give_up() -> tuple[None, None]:
            self._database.release(self.replica, execution, fence)
            return None, None

        await self._write(give_up, releases=execution)

    async def renew(self) -> None:
        if not self._connected:
            raise gone()

    async def _write(self, write: Write, *, releases: str = "") -> Any:
        if not self._connected:
            raise gone()
        future: asyncio.Future[Any] = self._machine.create_future()
        self._gathered.append(Waiting(write, future, releases))
        if self._group is None:
            self._hand_over()
        return await future

    def _hand_over(self) -> None:
        writes, self._gathered = self._gathered, []
        self._group = Group(writes) if writes else None
        if self._group is not None:
            self._universe.later(self._latency_s(), self._arrive, self._group)
            self._machine_dies("during")

    def _arrive(self, group: Group) -> None:
        """The group has reached the database."""
        if not self._machine.alive:
            if self._chance.random() < 0.5:
                self._fault("write took place after its sender died")
                self._execute(group)
            return
        if group.given_up or self._machine_dies("before"):
            return
        if self._away() or self._happens(self._weather.lost_group, "group lost"):
            self._lose(group)
            return
        if self._weather.full_until_s > self._universe.now_s or self._happens(self._weather.refused, "write refused"):
            self._answer(group, [(None, gone())] * len(group.writes))
            return
        self._execute(group)
        assert group.outcomes is not None
        if self._machine_dies("after"):
            return
        if self._loses_claim(group) or self._happens(self._weather.lost_answer, "acknowledgement lost"):
            self._lose(group)
            return
        slow_s = self._chance.random() * SLOW_S if self._happens(self._weather.slow, "commit slow") else 0.0
        self._universe.later(slow_s + self._latency_s(), self._answer, group, group.outcomes)

    def _loses_claim(self, group: Group) -> bool:
        claimed = any(isinstance(answer, list) and answer for answer, _ in group.outcomes or ())
        if not (self.loses_claim and claimed):
            return False
        self.loses_claim = False
        return self._happens(1.0, "acknowledgement lost")

    def _machine_dies(self, when: str) -> bool:
        if self.dies_at_commit != when:
            return False
        self.dies_at_commit = ""
        self._fault(f"crash {when} commit")
        self._machine.burned()
        return True

    def _execute(self, group: Group) -> None:
        group.outcomes = []
        for waiting in group.writes:
            try:
                answer, commit = waiting.write()
            except (StaleAppendError, ConflictError) as error:
                group.outcomes.append((None, error))
                continue
            group.outcomes.append((answer, None))
            if commit is not None:
                group.commits.append(commit)

    def _answer(self, group: Group, outcomes: Sequence[tuple[Any, Exception | None]]) -> None:
        if not group.given_up and self._machine.alive:
            self._machine.call_soon(self._deliver, group, outcomes)

    def _deliver(self, group: Group, outcomes: Sequence[tuple[Any, Exception | None]]) -> None:
        if group.given_up:
            return
        if group.commits:
            self._told().committed(group.commits)
        for waiting, (answer, error) in zip(group.writes, outcomes, strict=True):
            if error is None:
                self._learn(waiting, answer)
            settle(waiting.future, answer, error)
        self._hand_over()

    def _learn(self, waiting: Waiting, answer: Any) -> None:
        """What an answer says about who owns what."""
        self._owned.discard(waiting.releases)
        if isinstance(answer, Created) and answer.created:
            self._owned.add(answer.summary.execution)
        elif isinstance(answer, list):
            if not waiting.future.done():
                self._owned |= {claim.summary.execution for claim in answer}
            elif self._connected:  # who asked has gone
                self._database.release_all_but(self.replica, self._owned)

    # --- losing the connection ----------------------------------------------------------------------------------

    def cut(self) -> None:
        """Everything under way is lost; whether it was done shows when there is a connection again."""
        if self._connected:
            self._lose(self._group)

    def _lose(self, group: Group | None) -> None:
        self._connected = False
        self._connection += 1
        waiting = [waiting.future for waiting in self._gathered] + list(self._reads)
        if group is not None:
            group.given_up = True
            waiting += [waiting.future for waiting in group.writes]
            self._owned -= {waiting.releases for waiting in group.writes}
        self._gathered, self._group = [], None
        self._reads.clear()
        self._machine.call_soon(refuse, waiting)
        if self._embedded:
            if group is not None and group.outcomes is None and self._chance.random() < 0.5:
                self._execute(group)
            self._failed = True
            self._machine.call_soon(self._told().failed, OSError("fsync failed"))
            return
        if group is not None:
            self._universe.later(self._chance.random() * 2, self._arrive_late, group)
        self._universe.later(self._chance.choice((0.02, 0.3, 2.0)), self._come_back, group)

    def _arrive_late(self, group: Group) -> None:
        if group.outcomes is None and self._group_is_open(group):
            self._fault("write took place after its error")
            self._execute(group)

    def _group_is_open(self, group: Group) -> bool:
        return not self._connected and self._machine.alive and bool(group.writes)

    def _come_back(self, group: Group | None) -> None:
        if self._connected or self._failed or not self._machine.alive:
            return
        if self._away():
            self._universe.later(0.2, self._come_back, group)
            return
        if group is not None and group.outcomes is None and self._chance.random() < 0.3:
            self._fault("write took place after its error")
            self._execute(group)
        if group is not None:
            self._settle_doubt(group)
        self._connected = True
        if self._database.release_all_but(self.replica, self._owned):
            self._fault("ownership unknown")

    def _settle_doubt(self, group: Group) -> None:
        """Nothing of it takes place any more; what it created belongs to this process."""
        for answer, _ in group.outcomes or ():
            if isinstance(answer, Created) and answer.created:
                self._owned.add(answer.summary.execution)
        group.writes = ()

    def _renew(self) -> None:
        self._machine.call_later(LEASE_S / 3, self._renew)
        if self._connected:
            self._universe.later(self._latency_s(), self._extend)

    def _extend(self) -> None:
        if self._connected and self._machine.alive:
            self._extended()

    def _extended(self) -> int:
        """This replica, under another name if its lease ran out: then it owns nothing any more."""
        try:
            self._database.extend(self.replica)
        except GoneError:
            self._fault("lease expired")
            self.replica = self._database.join()
            self._owned.clear()
            self._machine.call_soon(self._told().disowned)
        return self.replica

    # --- hearing of others --------------------------------------------------------------------------------------

    def hint_committed(self, commit: Commit) -> None:
        if self._happens(self._weather.lost_hint, "hint lost"):
            return
        if commit.execution in self._hints:
            self._fault("hints merged")
        else:
            self._universe.later(self._hint_s(), self._hear, commit.execution)
        self._hints[commit.execution] = commit

    def _hear(self, execution: str) -> None:
        commit = self._hints.pop(execution)
        if self._machine.alive and self._connected:
            self._machine.call_soon(self._told().committed, [commit])

    def hint_requested(self, execution: str) -> None:
        if self._embedded:
            self._machine.call_soon(self._told().requested, execution)
        elif not self._happens(self._weather.lost_hint, "hint lost"):
            self._universe.later(self._hint_s(), self._hear_request, execution)

    def hint_claimable(self) -> None:
        if not self._happens(self._weather.lost_hint, "hint lost"):
            self._universe.later(self._hint_s(), self._hear_claimable)

    def _hear_claimable(self) -> None:
        if self._machine.alive and self._connected:
            self._machine.call_soon(self._told().claimable)

    def _hear_request(self, execution: str) -> None:
        if self._machine.alive and self._connected:
            self._machine.call_soon(self._told().requested, execution)

    def _hint_s(self) -> float:
        late = self._happens(self._weather.late_hint, "hint late")
        return self._chance.random() * (3.0 if late else 0.01)

    def _poll(self) -> None:
        self._machine.call_later(POLL_S, self._poll)
        if not self._connected or self._embedded or self._away():
            return
        for execution in self._database.commanded(self.replica):
            self._told().requested(execution)
        if self._database.has_lapsed():
            self._told().claimable()
        watched = [self._database.rows[execution].summary for execution in self._told().watched().executions]
        self._told().committed([Commit(one.execution, one.tenant, one.latest_sequence, 0) for one in watched])

    # --- reading ------------------------------------------------------------------------------------------------

    async def read(self, execution: str, after_sequence: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        def events() -> list[StoredEvent]:
            row = self._database.rows.get(execution)
            found = row.events[after_sequence : after_sequence + limit] if row else []
            return within_bytes(found, limit_bytes, event_bytes)[0]

        return await self._read(events)

    async def read_all(
        self,
        tenant: str,
        after_position: int,
        where: Filter,
        kinds: frozenset[EventKind],
        *,
        limit: int,
        limit_bytes: int,
    ) -> tuple[list[PositionedEvent], int]:
        def events() -> tuple[list[PositionedEvent], int]:
            found = self._database.log(tenant, after_position, where, kinds)[:limit]
            taken, complete = within_bytes(found, limit_bytes, positioned_bytes)
            through = max(after_position, self._database.position())
            return taken, reached(taken, through=through, limit=limit, complete=complete)

        return await self._read(events)

    async def position(self) -> int:
        return await self._read(self._database.position)

    async def get(self, execution: str) -> Summary | None:
        return await self._read(lambda: self._database.get(execution))

    async def summaries(self, tenant: str, where: Filter, *, limit: int, before: str | None) -> list[Summary]:
        def wanted(summary: Summary) -> bool:
            after = before is None or summary.execution < before
            return summary.tenant == tenant and after and matches(where, summary)

        return await self._read(lambda: self._database.summaries(wanted)[:limit])

    async def find(self, tenant: str, workflow: str, idempotency_key: str) -> Summary | None:
        return await self._read(lambda: self._database.find(tenant, workflow, idempotency_key))

    async def request(self, execution: str, command: CancelRequest) -> None:
        await self._read(lambda: self._database.request(execution, command))

    async def requests(self, execution: str) -> list[CancelRequest]:
        return await self._read(lambda: self._database.requests(execution))

    async def blocked(self, tenant: str, capabilities: Capabilities) -> Mapping[str, str]:
        return await self._read(lambda: self._database.blocked(tenant, capabilities))

    async def put_definition(self, definition: StoredDefinition) -> None:
        await self._read(lambda: self._database.put_definition(definition))

    async def get_definition(self, revision: str) -> StoredDefinition | None:
        return await self._read(lambda: self._database.definition(revision))

    async def count(self) -> Mapping[str, int]:
        states = [row.summary.state for row in self._database.rows.values()]
        return {state: states.count(state) for state in ExecutionState if state is not ExecutionState.BLOCKED}

    async def _read(self, ask: Callable[[], Answer]) -> Answer:
        """Also what is written beside the groups: commands and definitions."""
        if not self._connected:
            raise gone()
        future: asyncio.Future[Answer] = self._machine.create_future()
        self._reads[future] = None
        self._universe.later(self._latency_s(), self._serve, future, ask)
        return await future

    def _serve(self, future: asyncio.Future[Any], ask: Callable[[], Any]) -> None:
        if future not in self._reads:
            return
        if self._away():
            self._lose(self._group)
            return
        self._universe.later(self._latency_s(), self._answer_read, future, ask())

    def _answer_read(self, future: asyncio.Future[Any], answer: Any) -> None:
        if future in self._reads and self._machine.alive:
            del self._reads[future]
            self._machine.call_soon(settle, future, answer, None)

    # --- parts --------------------------------------------------------------------------------------------------

    def _told(self) -> JournalListener:
        assert self._listener is not None, "opened before"
        return self._listener

    def _away(self) -> bool:
        return self._weather.away_until_s > self._universe.now_s

    def _latency_s(self) -> float:
        return 0.0003 + self._chance.random() * 0.003

    def _happens(self, probability: float, kind: str) -> bool:
        if not probability or self._chance.random() >= probability:
            return False
        self._fault(kind)
        return True

    def _fault(self, kind: str) -> None:
        self._history.add(Fault(self._universe.now_s, kind, self._machine.name))
