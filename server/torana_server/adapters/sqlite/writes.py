"""What can be asked of the writer, each with the future that learns the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Create:
    done: asyncio.Future[Created]
    summary: Summary
    events: Sequence[StoredEvent]


@dataclass(frozen=True, slots=True)
class Append:
    done: asyncio.Future[None]
    execution: str
    expected_sequence: int
    events: Sequence[StoredEvent]
    fence: int
    transition: Transition | None


@dataclass(frozen=True, slots=True)
class Request:
    done: asyncio.Future[None]
    execution: str
    command: CancelRequest


@dataclass(frozen=True, slots=True)
class TakeOver:
    done: asyncio.Future[list[Claim]]
    limit: int
    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class Release:
    done: asyncio.Future[None]
    execution: str
    fence: int


@dataclass(frozen=True, slots=True)
class PutDefinition:
    done: asyncio.Future[None]
    definition: StoredDefinition


Write = Create | Append | Request | TakeOver | Release | PutDefinition


@dataclass(frozen=True, slots=True)
class Outcome:
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
