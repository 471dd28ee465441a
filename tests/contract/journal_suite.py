"""What every journal promises, as tests. An adapter's test class inherits a suite and says how to make a journal."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from contract.journal_ownership import OwnershipSuite
from contract.journal_parts import (
    ANYTHING,
    COMPLETED,
    DEFINITION,
    NO_LIMIT,
    RUNNING,
    TENANT,
    Watcher,
    assorted,
    events,
    filters,
    summary,
)
from torana_server.core.clock import Micros
from torana_server.core.errors import ConflictError, Reason, StaleAppendError, UnavailableError
from torana_server.execution.events import EventKind
from torana_server.execution.filters import EVERYTHING, STATES, Filter, Operator, Term, matches
from torana_server.execution.ports import (
    CancelRequest,
    Created,
    ExecutionState,
    Journal,
    Transition,
)


class JournalSuite(OwnershipSuite):
    """For every adapter."""

    # Creating.

    async def test_create_makes_summary_and_events_readable(self, journal: Journal) -> None:
        asked = summary(
            "e1",
            labels={"team": "a", 'naïve "quoted"': "\\\u2603"},
            session_id="s",
            idempotency_key="k",
            request_hash=bytes(range(32)),
            retry_of="e0",
        )
        created = await journal.create(asked, events(1, 2))
        assert created == Created(replace(asked, latest_sequence=2), created=True, fence=created.fence)
        assert created.fence > 0
        assert await journal.get("e1") == created.summary
        assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 2)

    async def test_the_same_idempotency_key_finds_the_first_execution(self, journal: Journal) -> None:
        first = await journal.create(summary("e1", idempotency_key="k", request_hash=b"1"), events(1, 1))
        again = await journal.create(summary("e2", idempotency_key="k", request_hash=b"2"), events(1, 1))
        assert again == Created(first.summary, created=False, fence=0)
        assert await journal.get("e2") is None
        assert await journal.read("e2", 0, **NO_LIMIT) == []

    async def test_a_finished_execution_keeps_its_idempotency_key(self, journal: Journal) -> None:
        await self.finished(journal, "e1", idempotency_key="k")
        again = await journal.create(summary("e2", idempotency_key="k"), events(1, 1))
        assert (again.created, again.summary.execution) == (False, "e1")
        assert again.summary.state is ExecutionState.COMPLETED

    async def test_a_hundred_racers_with_one_key_start_one_execution(self, journal: Journal, watcher: Watcher) -> None:
        racers = [journal.create(summary(f"e{n:03}", idempotency_key="k"), events(1, 1)) for n in range(100)]
        outcomes = await asyncio.gather(*racers)
        assert sum(outcome.created for outcome in outcomes) == 1
        assert len({outcome.summary.execution for outcome in outcomes}) == 1
        assert len(watcher.commits) == 1

    async def test_keys_are_apart_by_tenant_and_workflow_and_absent_when_empty(self, journal: Journal) -> None:
        different = [
            summary("e1", idempotency_key="k"),
            summary("e2", idempotency_key="k", tenant="other"),
            summary("e3", idempotency_key="k", workflow="other"),
            summary("e4"),
            summary("e5"),
        ]
        outcomes = await asyncio.gather(*(journal.create(one, events(1, 1)) for one in different))
        assert all(outcome.created for outcome in outcomes)

    async def test_an_id_names_one_execution(self, journal: Journal) -> None:
        await journal.create(summary("e1"), events(1, 1))
        others = [journal.create(summary(f"f{n}"), events(1, 1)) for n in range(5)]
        same, *rest = await asyncio.gather(journal.create(summary("e1"), events(1, 1)), *others, return_exceptions=True)
        assert isinstance(same, ConflictError)
        assert all(isinstance(one, Created) and one.created for one in rest)
        assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 1)

    # Appending.

    async def test_an_append_is_readable_and_moves_the_summary(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.append("e1", 1, events(2, 3), fence, RUNNING)
        found = await journal.get("e1")
        assert found == summary("e1", state=ExecutionState.RUNNING, start_time=5, latest_sequence=3)
        await journal.append("e1", 3, events(4, 4), fence, COMPLETED)
        found = await journal.get("e1")
        assert found == summary("e1", state=ExecutionState.COMPLETED, start_time=5, end_time=9, latest_sequence=4)
        assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 4)

    async def test_an_append_without_transition_leaves_all_but_the_sequence(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.append("e1", 1, events(2, 2), fence)
        assert await journal.get("e1") == summary("e1", latest_sequence=2)

    async def test_the_listener_hears_of_a_commit_before_its_append_returns(
        self, journal: Journal, watcher: Watcher
    ) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        assert [commit.through_sequence for commit in watcher.commits] == [1]
        await journal.append("e1", 1, events(2, 4), fence)
        first, second = watcher.commits
        assert (second.execution, second.tenant, second.through_sequence) == ("e1", TENANT, 4)
        assert second.events == tuple(events(2, 4))
        assert second.position == await journal.position() > first.position

    async def test_commits_are_heard_once_each_and_in_order(self, journal: Journal, watcher: Watcher) -> None:
        async def run(execution: str) -> None:
            fence = (await journal.create(summary(execution), events(1, 1))).fence
            for n in range(1, 6):
                await journal.append(execution, n, events(n + 1, n + 1), fence)

        await asyncio.gather(*(run(f"e{n}") for n in range(20)))
        positions = [commit.position for commit in watcher.commits]
        assert positions == sorted(set(positions))
        for n in range(20):
            mine = [commit.through_sequence for commit in watcher.commits if commit.execution == f"e{n}"]
            assert mine == [1, 2, 3, 4, 5, 6]

    async def test_a_stale_sequence_is_refused_and_writes_nothing(self, journal: Journal, watcher: Watcher) -> None:
        fence = (await journal.create(summary("e1"), events(1, 2))).fence
        for expected in (0, 1, 3):
            with pytest.raises(StaleAppendError, match="is at sequence 2"):
                await journal.append("e1", expected, events(expected + 1, expected + 1), fence, COMPLETED)
        assert await journal.get("e1") == summary("e1", latest_sequence=2)
        assert len(watcher.commits) == 1

    async def test_a_stale_fence_is_refused(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        with pytest.raises(StaleAppendError, match="fence"):
            await journal.append("e1", 1, events(2, 2), fence + 1)
        with pytest.raises(StaleAppendError, match="fence"):
            await journal.append("e1", 1, events(2, 2), 0)

    async def test_an_execution_that_does_not_exist_takes_no_append(self, journal: Journal) -> None:
        with pytest.raises(StaleAppendError, match="not owned"):
            await journal.append("nothing", 0, events(1, 1), 1)

    @pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED"])
    async def test_nothing_follows_a_terminal_transition(self, journal: Journal, end: str) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.append("e1", 1, events(2, 2), fence, Transition(ExecutionState(end), end_time=Micros(9)))
        with pytest.raises(StaleAppendError, match="has ended"):
            await journal.append("e1", 2, events(3, 3), fence)
        assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 2)

    async def test_of_two_terminal_appends_that_race_the_first_stands(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        racers = [journal.append("e1", 1, events(2, 2), fence, COMPLETED) for _ in range(2)]
        outcomes = await asyncio.gather(*racers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), StaleAppendError]
        assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 2)

    async def test_a_refused_append_fails_alone(self, journal: Journal) -> None:
        fences = {f"e{n}": (await journal.create(summary(f"e{n}"), events(1, 1))).fence for n in range(20)}
        appends = [
            journal.append(execution, 1 if n % 2 else 7, events(2, 2) if n % 2 else events(8, 8), fence)
            for n, (execution, fence) in enumerate(fences.items())
        ]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        for n, (execution, outcome) in enumerate(zip(fences, outcomes, strict=True)):
            assert (outcome is None) == bool(n % 2), f"{execution}: {outcome!r}"
            assert len(await journal.read(execution, 0, **NO_LIMIT)) == 1 + n % 2

    async def test_appends_sent_together_build_on_each_other(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await asyncio.gather(
            journal.append("e1", 1, events(2, 2), fence, RUNNING),
            journal.append("e1", 2, events(3, 3), fence),
            journal.append("e1", 3, events(4, 4), fence, COMPLETED),
        )
        found = await journal.get("e1")
        assert found == summary("e1", state=ExecutionState.COMPLETED, start_time=5, end_time=9, latest_sequence=4)

    async def test_events_with_a_gap_are_a_mistake_of_the_caller(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="expected an event with sequence 1, got 2"):
            await journal.create(summary("e1"), events(2, 2))
        fence = (await journal.create(summary("e2"), events(1, 1))).fence
        with pytest.raises(ValueError, match="expected an event with sequence 2, got 3"):
            await journal.append("e2", 1, events(3, 3), fence)

    async def test_a_caller_that_stops_waiting_loses_no_write(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        waiting = asyncio.ensure_future(journal.append("e1", 1, events(2, 2), fence))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await journal.append("e1", 2, events(3, 3), fence)
        assert await journal.read("e1", 0, **NO_LIMIT) == events(1, 3)

    # Reading one execution.

    async def test_read_starts_after_a_sequence_and_keeps_both_limits(self, journal: Journal) -> None:
        await journal.create(summary("e1"), events(1, 10, size=100))
        assert await journal.read("e1", 4, limit=3, limit_bytes=10_000) == events(5, 7, size=100)
        assert await journal.read("e1", 4, limit=100, limit_bytes=250) == events(5, 6, size=100)
        assert await journal.read("e1", 4, limit=100, limit_bytes=300) == events(5, 7, size=100)
        assert await journal.read("e1", 10, **NO_LIMIT) == []

    async def test_read_gives_at_least_one_event(self, journal: Journal) -> None:
        await journal.create(summary("e1"), events(1, 2, size=100))
        assert await journal.read("e1", 0, limit=10, limit_bytes=1) == events(1, 1, size=100)

    async def test_absence_is_none_or_empty(self, journal: Journal) -> None:
        assert await journal.get("nothing") is None
        assert await journal.find(TENANT, "etl", "nothing") is None
        assert await journal.read("nothing", 0, **NO_LIMIT) == []
        assert await journal.requests("nothing") == []
        assert await journal.summaries(TENANT, EVERYTHING, limit=10, before=None) == []
        assert await journal.read_all(TENANT, 0, EVERYTHING, frozenset(), **NO_LIMIT) == ([], 0)
        assert await journal.get_definition("nothing") is None
        assert await journal.claim(10, ANYTHING) == []
        assert await journal.blocked(TENANT, ANYTHING) == {}
        assert await journal.position() == 0
        await journal.request("nothing", CancelRequest("", ""))
        await journal.release("nothing", 1)

    async def test_find_takes_tenant_workflow_and_key(self, journal: Journal) -> None:
        created = await journal.create(summary("e1", idempotency_key="k"), events(1, 1))
        await journal.create(summary("e2"), events(1, 1))
        assert await journal.find(TENANT, "etl", "k") == created.summary
        assert await journal.find("other", "etl", "k") is None
        assert await journal.find(TENANT, "other", "k") is None
        assert await journal.find(TENANT, "etl", "") is None

    # Reading across executions.

    async def test_read_all_gives_a_tenants_events_in_order_of_commit(self, journal: Journal) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.create(summary("e2"), events(1, 2))
        await journal.create(summary("e3", tenant="other"), events(1, 1))
        await journal.append("e1", 1, events(2, 2), fence)
        found, reached = await journal.read_all(TENANT, 0, EVERYTHING, frozenset(), **NO_LIMIT)
        assert [(one.execution, one.event.sequence) for one in found] == [("e1", 1), ("e2", 1), ("e2", 2), ("e1", 2)]
        assert reached == await journal.position()
        assert await journal.read_all(TENANT, reached, EVERYTHING, frozenset(), **NO_LIMIT) == ([], reached)

    async def test_read_all_filters_by_kind_and_by_execution(self, journal: Journal) -> None:
        await journal.create(summary("e1", labels={"a": "b"}), events(1, 2, kind=EventKind.STEP_COMPLETED))
        await journal.create(summary("e2"), [*events(1, 1), *events(2, 2, kind=EventKind.STEP_COMPLETED)])
        kinds = frozenset({EventKind.STEP_LOG, EventKind.STEP_FAILED})
        found, reached = await journal.read_all(TENANT, 0, EVERYTHING, kinds, **NO_LIMIT)
        assert [(one.execution, one.event.sequence) for one in found] == [("e2", 1)]
        assert reached == await journal.position()
        where = Filter((Term("labels.a", Operator.EQ, "b"),))
        found, reached = await journal.read_all(TENANT, 0, where, frozenset(), **NO_LIMIT)
        assert [(one.execution, one.event.sequence) for one in found] == [("e1", 1), ("e1", 2)]
        assert reached == await journal.position()

    @pytest.mark.parametrize(("limit", "limit_bytes"), [(1, 1 << 20), (2, 1 << 20), (3, 1 << 20), (100, 1), (100, 25)])
    async def test_read_all_in_pages_skips_and_repeats_nothing(
        self, journal: Journal, limit: int, limit_bytes: int
    ) -> None:
        for n in range(6):
            await journal.create(summary(f"e{n}", tenant="other" if n % 3 == 2 else TENANT), events(1, 2))
        pages, position = [], 0
        while position < await journal.position():
            page, position = await journal.read_all(
                TENANT, position, EVERYTHING, frozenset(), limit=limit, limit_bytes=limit_bytes
            )
            pages.extend(page)
        assert [(one.execution, one.event.sequence) for one in pages] == list(
            itertools.product(["e0", "e1", "e3", "e4"], [1, 2])
        )

    async def test_a_reader_that_follows_positions_misses_nothing_while_others_write(self, journal: Journal) -> None:
        async def run(execution: str) -> None:
            fence = (await journal.create(summary(execution), events(1, 1))).fence
            for n in range(1, 11):
                await journal.append(execution, n, events(n + 1, n + 1), fence, COMPLETED if n == 10 else None)

        writers = asyncio.gather(*(run(f"e{n:02}") for n in range(10)))
        seen: dict[str, list[int]] = {}
        position = 0
        while not writers.done() or position < await journal.position():
            page, position = await journal.read_all(
                TENANT, position, EVERYTHING, frozenset(), limit=7, limit_bytes=1 << 20
            )
            await asyncio.sleep(0)  # a journal that never waits would keep the writers from running
            for one in page:
                seen.setdefault(one.execution, []).append(one.event.sequence)
        await writers
        assert seen == {f"e{n:02}": list(range(1, 12)) for n in range(10)}

    # Lists.

    async def test_summaries_are_newest_first_in_pages(self, journal: Journal) -> None:
        for n in (3, 1, 4, 0, 2):
            await journal.create(summary(f"e{n}"), events(1, 1))
        await journal.create(summary("e9", tenant="other"), events(1, 1))

        async def page(before: str | None) -> list[str]:
            found = await journal.summaries(TENANT, EVERYTHING, limit=2, before=before)
            return [one.execution for one in found]

        assert await page(None) == ["e4", "e3"]
        assert await page("e3") == ["e2", "e1"]
        assert await page("e1") == ["e0"]
        assert await page("e0") == []

    async def test_a_page_is_full_for_as_long_as_there_are_matches(self, journal: Journal) -> None:
        for n in range(10):
            await journal.create(summary(f"e{n}", workflow="odd" if n % 2 else "even"), events(1, 1))
        where = Filter((Term("workflow", Operator.EQ, "odd"),))
        found = await journal.summaries(TENANT, where, limit=3, before="e7")
        assert [one.execution for one in found] == ["e5", "e3", "e1"]

    async def test_the_retries_of_an_execution_are_found(self, journal: Journal) -> None:
        for execution, retry_of in (("e1", ""), ("e2", "e1"), ("e3", "e1"), ("e4", "e2")):
            await journal.create(summary(execution, retry_of=retry_of), events(1, 1))
        where = Filter((Term("retry_of", Operator.EQ, "e1"),))
        found = await journal.summaries(TENANT, where, limit=10, before=None)
        assert [one.execution for one in found] == ["e3", "e2"]

    async def test_lists_and_filters_agree(self, journal: Journal) -> None:
        everything = list(assorted())
        for one in everything:
            await journal.create(one, events(1, 1))
        stored = await journal.summaries(TENANT, EVERYTHING, limit=1_000, before=None)
        loop = asyncio.get_running_loop()

        @given(filters)
        @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
        def agree(where: Filter) -> None:
            listing = journal.summaries(TENANT, where, limit=1_000, before=None)
            found = asyncio.run_coroutine_threadsafe(listing, loop).result()
            assert found == [one for one in stored if matches(where, one)]

        await asyncio.to_thread(agree)

    # Commands.

    async def test_a_request_waits_for_the_owner_and_wakes_it(self, journal: Journal, watcher: Watcher) -> None:
        await journal.create(summary("e1"), events(1, 1))
        await journal.request("e1", CancelRequest("enough", "ann"))
        assert watcher.wakes == ["e1"]
        assert await journal.requests("e1") == [CancelRequest("enough", "ann")]

    async def test_the_first_request_of_a_kind_wins(self, journal: Journal) -> None:
        await journal.create(summary("e1"), events(1, 1))
        await journal.request("e1", CancelRequest("first", "ann"))
        await journal.request("e1", CancelRequest("second", "bob"))
        assert await journal.requests("e1") == [CancelRequest("first", "ann")]

    async def test_a_terminal_event_settles_requests(self, journal: Journal, watcher: Watcher) -> None:
        fence = (await journal.create(summary("e1"), events(1, 1))).fence
        await journal.request("e1", CancelRequest("", ""))
        await journal.append("e1", 1, events(2, 2), fence, COMPLETED)
        assert await journal.requests("e1") == []
        watcher.wakes.clear()
        await journal.request("e1", CancelRequest("", ""))
        assert await journal.requests("e1") == []
        assert watcher.wakes == []

    # Definitions and counts.

    async def test_a_definition_is_kept_as_it_was_first_put(self, journal: Journal) -> None:
        await journal.put_definition(DEFINITION)
        await journal.put_definition(replace(DEFINITION, body="other", requires=frozenset()))
        assert await journal.get_definition("r1") == DEFINITION

    async def test_executions_are_counted_by_state(self, journal: Journal) -> None:
        assert await journal.count() == dict.fromkeys(STATES, 0)
        fences = [(await journal.create(summary(f"e{n}"), events(1, 1))).fence for n in range(3)]
        await journal.append("e0", 1, events(2, 2), fences[0], RUNNING)
        await journal.append("e0", 2, events(3, 3), fences[0], RUNNING)
        await journal.append("e1", 1, events(2, 2), fences[1], COMPLETED)
        counts = await journal.count()
        assert counts == dict.fromkeys(STATES, 0) | {"QUEUED": 1, "RUNNING": 1, "COMPLETED": 1}

    # Closing.

    async def test_closing_writes_what_waits(self, journal: Journal, watcher: Watcher) -> None:
        waiting = [asyncio.ensure_future(journal.create(summary(f"e{n}"), events(1, 1))) for n in range(10)]
        await asyncio.sleep(0)
        await journal.close()
        assert all(created.created for created in await asyncio.gather(*waiting))
        assert len(watcher.commits) == 10

    async def test_a_closed_journal_is_unavailable_and_closes_again_in_peace(self, journal: Journal) -> None:
        await journal.close()
        await journal.close()
        for use in (journal.get("e1"), journal.create(summary("e1"), events(1, 1)), journal.renew()):
            with pytest.raises(UnavailableError, match="not open") as refused:
                await use
            assert refused.value.reason is Reason.JOURNAL_UNAVAILABLE


class DurableJournalSuite(JournalSuite):
    """For adapters whose `durable` is true: what a new start finds."""

    async def test_everything_survives_a_new_start(self, journal: Journal, tmp_path: Path) -> None:
        await journal.put_definition(DEFINITION)
        await self.finished(journal, "e1", idempotency_key="k", labels={"a": "b"}, request_hash=b"\x00\xff")
        await journal.create(summary("e2"), events(1, 4))
        await journal.request("e2", CancelRequest("enough", "ann"))
        before = await self.everything(journal)
        await journal.close()
        again = self.make(tmp_path)
        await again.open(Watcher())
        assert await self.everything(again) == before
        assert await again.requests("e2") == [CancelRequest("enough", "ann")]
        assert not (await again.create(summary("e3", idempotency_key="k"), events(1, 1))).created
        await again.close()

    @staticmethod
    async def everything(journal: Journal) -> tuple[Any, ...]:
        return (
            await journal.summaries(TENANT, EVERYTHING, limit=100, before=None),
            await journal.read_all(TENANT, 0, EVERYTHING, frozenset(), **NO_LIMIT),
            await journal.position(),
            await journal.count(),
            await journal.get_definition("r1"),
        )

    async def test_a_new_start_claims_what_was_running(self, journal: Journal, tmp_path: Path) -> None:
        await journal.put_definition(DEFINITION)
        fence = (await journal.create(summary("e1"), events(1, 3))).fence
        await self.finished(journal, "e2")
        await journal.close()
        again = self.make(tmp_path)
        await again.open(Watcher())
        with pytest.raises(StaleAppendError):
            await again.append("e1", 3, events(4, 4), fence)
        [claim] = await again.claim(10, ANYTHING)
        assert (claim.summary.execution, claim.summary.latest_sequence) == ("e1", 3)
        assert claim.fence > fence
        await again.append("e1", 3, events(4, 4), claim.fence, COMPLETED)
        await again.close()

    async def test_positions_go_on_after_a_new_start(self, journal: Journal, tmp_path: Path) -> None:
        await journal.create(summary("e1"), events(1, 3))
        position = await journal.position()
        await journal.close()
        again = self.make(tmp_path)
        await again.open(Watcher())
        await again.create(summary("e2"), events(1, 1))
        found, _ = await again.read_all(TENANT, position, EVERYTHING, frozenset(), **NO_LIMIT)
        assert [(one.execution, one.event.sequence) for one in found] == [("e2", 1)]
        await again.close()
