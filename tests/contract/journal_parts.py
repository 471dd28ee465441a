"""What tests of journals are made of: events, summaries, filters, and a listener that remembers."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import strategies as st

from torana_server.core.clock import Micros
from torana_server.execution.events import JOURNAL_FORMAT, EventKind
from torana_server.execution.filters import STATES, Filter, Operator, Term
from torana_server.execution.ports import (
    Capabilities,
    Commit,
    ExecutionState,
    Journal,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
    Watched,
)

TENANT = "acme"
ANYTHING = Capabilities(frozenset({"code"}), JOURNAL_FORMAT)
DEFINITION = StoredDefinition("r1", "etl", '{"steps": []}', frozenset({"code"}))
RUNNING = Transition(ExecutionState.RUNNING, start_time=Micros(5))
COMPLETED = Transition(ExecutionState.COMPLETED, end_time=Micros(9))
NO_LIMIT = {"limit": 1_000, "limit_bytes": 1 << 30}


def events(first: int, last: int, *, size: int = 10, kind: EventKind = EventKind.STEP_LOG) -> list[StoredEvent]:
    """Events with the sequences first to last, each with its own bytes."""
    return [
        StoredEvent(n, kind, f"step{n}", n.to_bytes(2, "big") + b"\x00" * (size - 2)) for n in range(first, last + 1)
    ]


def summary(execution: str, **fields: Any) -> Summary:
    known = {"tenant": TENANT, "workflow": "etl", "revision": "r1", "state": ExecutionState.QUEUED, "create_time": 1}
    return Summary(execution=execution, **{**known, **fields})


@dataclass
class Watcher:
    """A listener that remembers."""

    commits: list[Commit] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    wakes: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    claimable_hints: int = 0
    disownments: int = 0
    watches: Watched = field(default_factory=Watched)

    def committed(self, commits: Sequence[Commit]) -> None:
        self.commits.extend(commits)
        self.groups.append(len(commits))

    def requested(self, execution: str) -> None:
        self.wakes.append(execution)

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def claimable(self) -> None:
        self.claimable_hints += 1

    def disowned(self) -> None:
        self.disownments += 1

    def watched(self) -> Watched:
        return self.watches


TEXTS = ("", "a", "b", "it's \"\\", "\u2603\U0001f600", "a\x00b", "%_")

filters = st.builds(
    Filter,
    st.lists(
        st.one_of(
            st.builds(Term, st.just("workflow"), st.sampled_from(["=", "!="]).map(Operator), st.just("etl")),
            st.builds(
                Term, st.just("state"), st.sampled_from(["=", "!="]).map(Operator), st.sampled_from(sorted(STATES))
            ),
            st.builds(
                Term,
                st.sampled_from(["session_id", "labels.a", 'labels.k"\\.\u2603', "labels.absent"]),
                st.sampled_from(list(Operator)),
                st.sampled_from((*TEXTS, "report")),
            ),
            st.builds(
                Term,
                st.sampled_from(["create_time", "end_time"]),
                st.sampled_from(list(Operator)),
                st.integers(0, 6).map(lambda tens: tens * 10),
            ),
        ),
        max_size=3,
    ).map(tuple),
)


def assorted() -> list[Summary]:
    """Summaries that differ in everything a filter can ask for."""
    numbers = itertools.count()
    return [
        summary(
            f"e{next(numbers):03}",
            workflow=workflow,
            state=state,
            create_time=10 * n,
            end_time=end_time,
            session_id=text,
            labels={} if n == 0 else {"a": text, 'k"\\.\u2603': workflow},
        )
        for n, text in enumerate(TEXTS)
        for workflow in ("etl", "report")
        for state, end_time in ((ExecutionState.RUNNING, None), (ExecutionState.FAILED, 10))
    ]


class JournalWorld:
    """A journal that is open, and its listener."""

    def make(self, folder: Path) -> Journal:
        raise NotImplementedError

    @pytest.fixture
    def watcher(self) -> Watcher:
        return Watcher()

    @pytest_asyncio.fixture
    async def journal(self, tmp_path: Path, watcher: Watcher) -> AsyncIterator[Journal]:
        journal = self.make(tmp_path)
        await journal.open(watcher)
        yield journal
        await journal.close()

    @staticmethod
    async def finished(journal: Journal, execution: str, **fields: Any) -> None:
        fence = (await journal.create(summary(execution, **fields), events(1, 1))).fence
        await journal.append(execution, 1, events(2, 2), fence, COMPLETED)
