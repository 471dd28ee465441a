"""The part of the suite on who owns an execution: releases, claims, capabilities."""

from __future__ import annotations

import asyncio

import pytest

from contract.journal_parts import ANYTHING, COMPLETED, DEFINITION, TENANT, JournalWorld, events, summary
from torana_server.core.errors import StaleAppendError
from torana_server.execution.events import JOURNAL_FORMAT
from torana_server.execution.ports import Capabilities, Journal, StoredDefinition


class OwnershipSuite(JournalWorld):
    """For every adapter; `JournalSuite` has it."""

    async def test_what_this_server_owns_is_not_claimed(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        await journal.create(summary("e1"), events(1, 1))
        await self.finished(journal, "e2")
        assert await journal.claim(10, ANYTHING) == []
        assert await journal.blocked(TENANT, ANYTHING) == {}
        await journal.renew()

    async def test_a_released_execution_is_claimed_with_a_new_fence(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        fence = (await journal.create(summary("e1"), events(1, 3))).fence
        await journal.release("e1", fence)
        [claim] = await journal.claim(10, ANYTHING)
        assert claim.summary == summary("e1", latest_sequence=3)
        assert claim.fence > fence
        assert await journal.claim(10, ANYTHING) == []
        with pytest.raises(StaleAppendError, match="fence"):
            await journal.append("e1", 3, events(4, 4), fence)
        await journal.append("e1", 3, events(4, 4), claim.fence, COMPLETED)

    async def test_a_released_execution_takes_no_append(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.release("e1", fence)
        with pytest.raises(StaleAppendError, match="not owned"):
            await journal.append("e1", 1, events(2, 2), fence)

    async def test_a_release_with_another_fence_or_after_the_end_does_nothing(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.release("e1", fence + 1)
        await journal.append("e1", 1, events(2, 2), fence, COMPLETED)
        await journal.release("e1", fence)
        assert await journal.claim(10, ANYTHING) == []

    async def test_claims_are_oldest_first_up_to_a_limit(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        for n in range(5):
            fence = (await journal.create(summary(f"e{n}"), events(1, 1))).fence
            await journal.release(f"e{n}", fence)
        claimed = [[claim.summary.execution for claim in await journal.claim(2, ANYTHING)] for _ in range(3)]
        assert claimed == [["e0", "e1"], ["e2", "e3"], ["e4"]]

    async def test_claims_that_race_share_out_the_executions(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        for n in range(20):
            fence = (await journal.create(summary(f"e{n:02}"), events(1, 1))).fence
            await journal.release(f"e{n:02}", fence)
        claims = await asyncio.gather(*(journal.claim(5, ANYTHING) for _ in range(6)))
        assert sorted(one.summary.execution for some in claims for one in some) == [f"e{n:02}" for n in range(20)]

    async def test_what_no_server_can_run_is_blocked_with_the_reason(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        await journal.put_definition(StoredDefinition("r2", "sql", "{}", frozenset({"code", "sql_query"})))
        for execution, revision in (("e1", "r1"), ("e2", "r2"), ("e3", "gone")):
            fence = (await journal.create(summary(execution, revision=revision), events(1, 1))).fence
            await journal.release(execution, fence)
        reasons = await journal.blocked(TENANT, ANYTHING)
        assert set(reasons) == {"e2", "e3"}
        assert "sql_query" in reasons["e2"]
        assert "gone is not stored" in reasons["e3"]
        assert await journal.blocked("other", ANYTHING) == {}
        assert [claim.summary.execution for claim in await journal.claim(10, ANYTHING)] == ["e1"]

    async def test_a_blocked_execution_is_claimed_when_what_it_needs_is_back(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.release("e1", fence)
        assert await journal.claim(10, ANYTHING) == []
        await journal.put_definition(DEFINITION)
        assert await journal.claim(10, Capabilities(frozenset(), JOURNAL_FORMAT)) == []
        assert len(await journal.claim(10, ANYTHING)) == 1
        assert await journal.blocked(TENANT, ANYTHING) == {}

    async def test_a_journal_of_a_newer_format_is_not_claimed(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.release("e1", fence)
        older = Capabilities(frozenset({"code"}), JOURNAL_FORMAT - 1)
        assert await journal.claim(10, older) == []
        assert "format" in (await journal.blocked(TENANT, older))["e1"]
