"""What several servers that share a journal on PostgreSQL may rely on, whatever the network does to each of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import asyncpg
import pytest

from contract.journal_parts import (
    ANYTHING,
    COMPLETED,
    DEFINITION,
    NO_LIMIT,
    RUNNING,
    TENANT,
    Watcher,
    events,
    summary,
)
from contract.wires import Wire, wire_to
from integration.conftest import PostgresDatabase
from torana_server.adapters.postgres import bus
from torana_server.adapters.postgres.journal import PostgresJournal
from torana_server.core.errors import StaleAppendError, UnavailableError
from torana_server.execution.events import JOURNAL_FORMAT
from torana_server.execution.filters import EVERYTHING
from torana_server.execution.ports import CancelRequest, Capabilities, Claim, Commit, StoredDefinition, Watched

LEASE_S = 1.0
WAIT_S = 20
ANY_KIND: frozenset = frozenset()


@dataclass
class Hearer(Watcher):
    """A listener that can be waited for."""

    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def committed(self, commits: Sequence[Commit]) -> None:
        super().committed(commits)
        self.heard.set()

    def requested(self, execution: str) -> None:
        super().requested(execution)
        self.heard.set()

    def claimable(self) -> None:
        super().claimable()
        self.heard.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self.heard.clear()
                await self.heard.wait()

    def through(self, execution: str) -> int:
        return max((commit.through_sequence for commit in self.commits if commit.execution == execution), default=0)


@dataclass
class Replica:
    journal: PostgresJournal
    hearer: Hearer

    async def claimed(self, capabilities: Capabilities = ANYTHING) -> Claim:
        """The one execution that it can claim, as soon as it can, as the engine does."""
        while True:
            self.hearer.claimable_hints = 0
            claims = await self.journal.claim(10, capabilities)
            if claims:
                [claim] = claims
                return claim
            await self.hearer.until(lambda: self.hearer.claimable_hints > 0)


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[Replica]:
    made = Replica(PostgresJournal(url, lease_s=LEASE_S), Hearer())
    await made.journal.open(made.hearer)
    try:
        yield made
    finally:
        await made.journal.close()


@pytest.fixture
async def replicas(postgres: PostgresDatabase) -> AsyncIterator[tuple[Replica, Replica]]:
    async with replica(postgres.url) as one, replica(postgres.url) as other:
        await one.journal.put_definition(DEFINITION)
        yield one, other


def through(link: Wire, database: PostgresDatabase) -> str:
    return replace(database, port=link.port).url


# Telling each other.


@pytest.mark.parametrize("tenant", ["acme", "a b\nc 1", "\x00\x01", "ünï ☃", "%20"])
async def test_commits_are_heard_of_elsewhere_whatever_the_tenant_is_called(
    replicas: tuple[Replica, Replica], tenant: str
) -> None:
    one, other = replicas
    fence = (await one.journal.create(summary("e1", tenant=tenant), events(1, 2))).fence
    await one.journal.append("e1", 2, events(3, 4), fence)
    await other.hearer.until(lambda: other.hearer.through("e1") == 4)
    assert {(commit.tenant, commit.events) for commit in other.hearer.commits} == {(tenant, ())}
    assert await other.journal.read("e1", 0, **NO_LIMIT) == events(1, 4)


async def test_a_command_on_one_server_wakes_the_owner(replicas: tuple[Replica, Replica]) -> None:
    one, other = replicas
    await one.journal.create(summary("e1"), events(1, 1))
    await other.journal.request("e1", CancelRequest("enough", "ann"))
    await one.hearer.until(lambda: "e1" in one.hearer.wakes)
    assert await one.journal.requests("e1") == [CancelRequest("enough", "ann")]
    assert other.hearer.wakes == []


async def test_without_notices_commits_and_commands_are_found_by_looking(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replicas
    monkeypatch.setattr(bus, "payloads", lambda replica, notices: [])
    other.hearer.watches = Watched(("e1",))
    fence = (await one.journal.create(summary("e1"), events(1, 1))).fence
    await one.journal.append("e1", 1, events(2, 3), fence)
    await other.journal.request("e1", CancelRequest("enough", "ann"))
    await other.hearer.until(lambda: other.hearer.through("e1") == 3)
    await one.hearer.until(lambda: "e1" in one.hearer.wakes)


async def test_commands_of_an_execution_that_ended_leave_nothing_behind(
    replicas: tuple[Replica, Replica], postgres: PostgresDatabase
) -> None:
    one, other = replicas
    fence = (await one.journal.create(summary("e1"), events(1, 1))).fence
    await other.journal.request("e1", CancelRequest("enough", "ann"))
    await one.journal.append("e1", 1, events(2, 2), fence, COMPLETED)
    connection = await asyncpg.connect(postgres.url)
    assert await connection.fetchval("SELECT count(*) FROM torana.commands") == 0
    await connection.close()


async def test_who_watches_all_executions_is_woken_when_an_older_transaction_lets_go(
    replicas: tuple[Replica, Replica], postgres: PostgresDatabase
) -> None:
    one, other = replicas
    other.hearer.watches = Watched(all=True)
    connection = await asyncpg.connect(postgres.url)
    older = connection.transaction()
    await older.start()
    await connection.execute("SELECT pg_current_xact_id()")
    await one.journal.create(summary("e1"), events(1, 1))
    await other.hearer.until(lambda: other.hearer.through("e1") == 1)
    assert (await other.journal.read_all(TENANT, 0, EVERYTHING, ANY_KIND, **NO_LIMIT))[0] == []
    woken = len(other.hearer.groups)
    await older.rollback()
    await other.hearer.until(lambda: len(other.hearer.groups) > woken)
    found, _ = await other.journal.read_all(TENANT, 0, EVERYTHING, ANY_KIND, **NO_LIMIT)
    assert [one.event for one in found] == events(1, 1)
    await connection.close()


# Owning.


async def test_a_release_and_a_farewell_are_heard_at_once(postgres: PostgresDatabase) -> None:
    async with replica(postgres.url) as other:
        async with replica(postgres.url) as one:
            await one.journal.put_definition(DEFINITION)
            fence = (await one.journal.create(summary("e1"), events(1, 2))).fence
            await one.journal.create(summary("e2"), events(1, 1))
            assert await other.journal.claim(10, ANYTHING) == []
            await one.journal.release("e1", fence)
            released = await other.claimed()
        left = await other.claimed()
        assert (released.summary.execution, left.summary.execution) == ("e1", "e2")
        await other.journal.append("e1", 2, events(3, 3), released.fence, COMPLETED)


async def test_a_server_claims_only_what_it_can_run_and_leaves_the_rest_to_others(
    replicas: tuple[Replica, Replica],
) -> None:
    one, other = replicas
    await one.journal.put_definition(StoredDefinition("r2", "sql", "{}", frozenset({"sql_query"})))
    for execution, revision in (("e1", "r1"), ("e2", "r2")):
        fence = (await one.journal.create(summary(execution, revision=revision), events(1, 1))).fence
        await one.journal.release(execution, fence)
    newer = Capabilities(frozenset({"sql_query"}), JOURNAL_FORMAT)
    assert (await other.claimed(newer)).summary.execution == "e2"
    assert await other.journal.claim(10, newer) == []
    assert "code" in (await other.journal.blocked(TENANT, newer))["e1"]
    assert (await one.claimed()).summary.execution == "e1"


async def test_racers_for_one_key_on_several_servers_start_one_execution(replicas: tuple[Replica, Replica]) -> None:
    journals = [one.journal for one in replicas]
    racers = [
        journals[number % 2].create(summary(f"e{number}", idempotency_key=f"k{number % 5}"), events(1, 1))
        for number in range(100)
    ]
    outcomes = await asyncio.gather(*racers)
    started = {outcome.summary.idempotency_key: outcome.summary.execution for outcome in outcomes if outcome.created}
    assert len(started) == 5 == sum(outcome.created for outcome in outcomes)
    assert all(started[outcome.summary.idempotency_key] == outcome.summary.execution for outcome in outcomes)


async def test_claims_that_race_on_several_servers_share_out_the_executions(
    replicas: tuple[Replica, Replica],
) -> None:
    one, _ = replicas
    for number in range(60):
        fence = (await one.journal.create(summary(f"e{number:02}"), events(1, 1))).fence
        await one.journal.release(f"e{number:02}", fence)
    claimed: list[str] = []
    while len(claimed) < 60:
        some = await asyncio.gather(*(each.journal.claim(7, ANYTHING) for each in replicas for _ in range(3)))
        claimed += [claim.summary.execution for claims in some for claim in claims]
    assert sorted(claimed) == [f"e{number:02}" for number in range(60)]


async def test_a_server_that_was_cut_off_loses_its_executions_and_cannot_write_to_them(
    postgres: PostgresDatabase,
) -> None:
    async with wire_to(postgres.port) as link, replica(postgres.url) as other:
        async with replica(through(link, postgres)) as one:
            await one.journal.put_definition(DEFINITION)
            fence = (await one.journal.create(summary("e1"), events(1, 1))).fence
            link.cut()
            with pytest.raises(UnavailableError):
                await one.journal.append("e1", 1, events(2, 2), fence, RUNNING)
            claim = await other.claimed()
            await other.journal.append("e1", 1, events(2, 3), claim.fence)
            link.mend()
            with pytest.raises(StaleAppendError):
                await patient(lambda: one.journal.append("e1", 1, events(2, 2), fence))
            assert one.hearer.disownments == 1
            assert (await one.journal.create(summary("e2"), events(1, 1))).created
            await other.journal.request("e2", CancelRequest("enough", "ann"))
            await one.hearer.until(lambda: "e2" in one.hearer.wakes)
        assert await other.journal.read("e1", 0, **NO_LIMIT) == events(1, 3)


async def test_a_short_cut_costs_no_execution(postgres: PostgresDatabase) -> None:
    async with wire_to(postgres.port) as link, replica(through(link, postgres)) as one:
        await one.journal.put_definition(DEFINITION)
        fence = (await one.journal.create(summary("e1"), events(1, 1))).fence
        for sequence in range(1, 20):
            link.reset_all()
            await patient(partial(put, one.journal, sequence, fence))
        assert one.hearer.disownments == 0
        assert await patient(lambda: one.journal.read("e1", 0, **NO_LIMIT)) == events(1, 20)


async def test_a_statement_that_arrives_when_its_connection_was_given_up_writes_nothing(
    postgres: PostgresDatabase,
) -> None:
    async with wire_to(postgres.port) as link, replica(through(link, postgres)) as one:
        fence = (await one.journal.create(summary("e1"), events(1, 1))).fence
        opened = one.journal._opened
        assert opened is not None
        connection: Any = opened.writer._connection
        link.hold(connection._transport.get_extra_info("sockname")[1])
        outcomes = await asyncio.gather(
            one.journal.append("e1", 1, events(2, 2), fence),
            one.journal.create(summary("e2"), events(1, 1)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [UnavailableError, UnavailableError]
        assert await patient(lambda: one.journal.read("e1", 1, **NO_LIMIT)) == []
        assert await one.journal.get("e2") is None
        assert link.deliver()
        await settled(postgres)
        assert await one.journal.read("e1", 1, **NO_LIMIT) == []
        assert await one.journal.get("e2") is None
        await one.journal.append("e1", 1, events(2, 3), fence)
        assert one.hearer.disownments == 0


async def settled(database: PostgresDatabase) -> None:
    """Until no connection has a statement under way that came before."""
    connection = await asyncpg.connect(database.url)
    try:
        while await connection.fetchval(BUSY):  # noqa: ASYNC110 — PostgreSQL tells nobody
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


BUSY = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
"""


async def put(journal: PostgresJournal, after: int, fence: int) -> None:
    """As the engine does: what the journal does not show is not there."""
    if not await journal.read("e1", after, **NO_LIMIT):
        await journal.append("e1", after, events(after + 1, after + 1), fence)


async def patient(call: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(UnavailableError):
                return await call()
            await asyncio.sleep(0.02)  # the pause of whoever waits for a store
