"""What can be asked of the writer, each with the future that learns the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from torana_server.execution.ports import Capabilities, Claim, Created, StoredEvent, Summary, Transition


class Create(NamedTuple):
    done: asyncio.Future[Created]
    summary: Summary
    events: Sequence[StoredEvent]


class Append(NamedTuple):
    done: asyncio.Future[None]
    execution: str
    expected_sequence: int
    events: Sequence[StoredEvent]
    fence: int
    transition: Transition | None


class TakeOver(NamedTuple):
    done: asyncio.Future[list[Claim]]
    limit: int
    capabilities: Capabilities


class Release(NamedTuple):
    done: asyncio.Future[None]
    execution: str
    fence: int


Write = Create | Append | TakeOver | Release


def tell(done: asyncio.Future[Any], value: object) -> None:
    """A caller that gave up waiting hears nothing; its write stands all the same."""
    if not done.done():
        done.set_result(value)


def refuse(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


def size_bytes(write: Write) -> int:
    return sum(len(event.data) for event in write.events) if isinstance(write, (Create, Append)) else 0
