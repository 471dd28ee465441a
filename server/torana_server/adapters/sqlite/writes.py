"""What can be asked of the writer, each with the future that learns the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from torana_server.execution.ports import (
    CancelRequest,
    Capabilities,
    Claim,
    Created,
    StoredDefinition,
    StoredEvent,
    Summary,
    Transition,
)


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


class Request(NamedTuple):
    done: asyncio.Future[None]
    execution: str
    command: CancelRequest


class TakeOver(NamedTuple):
    done: asyncio.Future[list[Claim]]
    limit: int
    capabilities: Capabilities


class Release(NamedTuple):
    done: asyncio.Future[None]
    execution: str
    fence: int


class PutDefinition(NamedTuple):
    done: asyncio.Future[None]
    definition: StoredDefinition


Write = Create | Append | Request | TakeOver | Release | PutDefinition


class Outcome(NamedTuple):
    """What to tell a future: a value, or an error."""

    done: asyncio.Future[Any]
    value: object = None
    error: Exception | None = None

    def tell(self) -> None:
        """On the event loop. A caller that gave up waiting hears nothing; its write stands all the same."""
        if self.done.done():
            return
        if self.error is None:
            self.done.set_result(self.value)
        else:
            self.done.set_exception(self.error)


def weight(write: Write) -> int:
    """Bytes of events, roughly what the write adds to the transaction."""
    if isinstance(write, (Create, Append)):
        return sum(len(event.data) for event in write.events)
    return 0
