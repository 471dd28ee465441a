"""What is on its way between a simulated replica and its database, and what may happen to it there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torana_server.core.errors import UnavailableError
from torana_server.execution.ports import Commit


@dataclass
class Weather:
    """How likely what goes wrong with a group of writes, and until when the database is away or full."""

    lost_answer: float = 0.0
    lost_group: float = 0.0
    refused: float = 0.0
    slow: float = 0.0
    lost_hint: float = 0.0
    late_hint: float = 0.0
    away_until_s: float = 0.0
    full_until_s: float = 0.0

    def clear(self) -> None:
        """Nothing fails any more. Hints may be late for ever: nobody may rely on them."""
        self.lost_answer = self.lost_group = self.refused = self.slow = 0.0
        self.away_until_s = self.full_until_s = 0.0


Write = Callable[[], tuple[Any, Commit | None]]
"""Gives the answer, and what it committed."""


class Waiting(NamedTuple):
    """A write and who waits for it. `releases` is the execution that it gives up."""

    write: Write
    future: asyncio.Future[Any]
    releases: str = ""


class Group:
    """Writes under way. `outcomes` are there once the database executed it."""

    def __init__(self, writes: Sequence[Waiting]) -> None:
        self.writes = writes
        self.outcomes: list[tuple[Any, Exception | None]] | None = None
        self.commits: list[Commit] = []
        self.given_up = False


def gone() -> UnavailableError:
    return UnavailableError("the database does not answer", retry_after_s=1.0)


def settle(future: asyncio.Future[Any], answer: Any, error: Exception | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


def refuse(futures: Sequence[asyncio.Future[Any]]) -> None:
    for future in futures:
        settle(future, None, gone())
