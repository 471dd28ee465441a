"""What the engine needs from outside: a journal, and the byte form of events."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torana_server.access import Principal
from torana_server.core.clock import Micros
from torana_server.execution.events import Event, EventKind
from torana_server.execution.filters import Filter
from torana_server.resources import Binding


class ExecutionState(enum.StrEnum):
    """BLOCKED is derived by readers (unfinished, unclaimed, and no live server can run it); no row ever holds it."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    BLOCKED = "BLOCKED"


TERMINAL_STATES = frozenset({ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED})


class StoredEvent(NamedTuple):
    """An event as the journal holds it. `data` is the serialised event: the same bytes go to every watcher.

    Step and kind stand beside the bytes so that filters parse nothing.
    """

    sequence: int
    kind: EventKind
    step: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The row of an execution that lists and look-ups read. Written in the same commit as the events it reflects."""

    execution: str
    tenant: str
    workflow: str
    revision: str
    state: ExecutionState
    create_time: Micros
    start_time: Micros | None = None
    end_time: Micros | None = None
    latest_sequence: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    session_id: str = ""
    idempotency_key: str = ""
    request_hash: bytes = b""
    """SHA-256 of what makes two requests the same; compared when an idempotency key comes again."""
    retry_of: str = ""
    oldest_sequence: int = 1
    """The first event that can still be read; latest_sequence + 1 when retention removed them all."""


class Transition(NamedTuple):
    """A change of the summary that an append brings about. None leaves the field as it is."""

    state: ExecutionState
    start_time: Micros | None = None
    end_time: Micros | None = None


FIRST_FENCE = 1
"""Of every new execution. An owner that never heard of its `create` knows it all the same."""


class Created(NamedTuple):
    """The outcome of `create`: the summary, and whether this call created it. `fence` is FIRST_FENCE, or 0 if it did
    not."""

    summary: Summary
    created: bool
    fence: int


class Claim(NamedTuple):
    summary: Summary
    fence: int


@dataclass(frozen=True, slots=True)
class CancelRequest:
    reason: str
    subject: str


class Commit(NamedTuple):
    """What one append made durable. `events` is empty when another process wrote them: read the journal."""

    execution: str
    tenant: str
    through_sequence: int
    position: int
    """The journal-wide position after this append; `read_all` resumes from it."""
    events: tuple[StoredEvent, ...] = ()


class PositionedEvent(NamedTuple):
    position: int
    execution: str
    event: StoredEvent


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this server can run. `requires` of a definition must be a subset of `offers`."""

    offers: frozenset[str]
    journal_format: int


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    """A definition by revision. `body` is its canonical JSON; `requires` is what a server must have to run it."""

    revision: str
    name: str
    body: str
    requires: frozenset[str]


class Watched(NamedTuple):
    """What callers of this server watch that others write."""

    executions: Sequence[str] = ()
    all: bool = False
    """Whether anybody watches all executions of a tenant."""


class JournalListener(Protocol):
    """Called on the event loop. Must return at once and must not raise."""

    def committed(self, commits: Sequence[Commit]) -> None:
        """Appends that are durable now, in commit order, each exactly once for those of this process.

        Called before the `append` or `create` that caused it returns. For commits of other processes it is a hint
        that may be late, merged or lost; poll behind it. Empty when `read_all` may have become able to return more.
        """

    def requested(self, execution: str) -> None:
        """A command waits for the owner of this execution. A hint, like the above."""

    def failed(self, error: Exception) -> None:
        """The journal cannot write any more and this process must stop, e.g. after a failed fsync."""

    # Only for journals that several servers share.

    def claimable(self) -> None:
        """Executions may have lost their server: `claim` may find some now. A hint, like the above."""

    def disowned(self) -> None:
        """Everything that this server owned so far has gone to others: its lease ran out."""

    def watched(self) -> Watched:
        """For what the journal must look by itself, every second or so, since hints may be lost."""


class Journal(Protocol):
    """The durable, append-only store of events; the only source of truth about executions.

    Every method is a coroutine and safe to call concurrently. Absence is None or empty, never an exception. A store
    that cannot answer raises UnavailableError (JOURNAL_UNAVAILABLE); the outcome of a write is then unknown until the
    store answers again: what the next read does not show will not appear any more.
    """

    kind: str
    """"sqlite", "memory" …"""
    durable: bool
    """Whether executions survive the process."""

    async def open(self, listener: JournalListener) -> None:
        """Migrates and opens. Raises StateError (JOURNAL_IN_USE) when another process has the store for itself."""

    async def close(self) -> None:
        """Writes what waits, then closes. Idempotent."""

    async def create(self, summary: Summary, events: Sequence[StoredEvent]) -> Created:
        """Makes a new execution and its first events durable, owned by this server.

        With an idempotency key that (tenant, workflow) already has, writes nothing and returns the existing summary
        with `created=False`, however many callers race (P6). The caller compares `request_hash`.
        """

    async def append(
        self,
        execution: str,
        expected_sequence: int,
        events: Sequence[StoredEvent],
        fence: int,
        transition: Transition | None = None,
    ) -> None:
        """Makes `events` durable after `expected_sequence`, with the summary's transition in the same commit.

        Durable on return. Raises StaleAppendError when the latest sequence is another, the fence is not the
        execution's current one, or the execution has ended; nothing is then written, and others in the same group
        commit stand. Events of one append are visible together. Without events it finds out whether the execution
        is still this server's to write.
        """

    async def read(self, execution: str, after_sequence: int, *, limit: int, limit_bytes: int) -> list[StoredEvent]:
        """Events after a sequence in order, up to both limits, but at least one if there is one."""

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
        """Events of all executions of a tenant after a position, and the position reached.

        Empty `kinds` means all. Order within each execution is that of its sequence; nothing visible later has a
        position at or below the one returned, which may be ahead of the last event when others did not match.
        """

    async def position(self) -> int:
        """The latest position: where a reader of new events starts."""

    async def get(self, execution: str) -> Summary | None: ...

    async def summaries(self, tenant: str, where: Filter, *, limit: int, before: str | None) -> list[Summary]:
        """Newest first (descending execution id), starting before an execution id."""

    async def find(self, tenant: str, workflow: str, idempotency_key: str) -> Summary | None: ...

    async def request(self, execution: str, command: CancelRequest) -> None:
        """Durably queues a command for the owner and wakes it. The first command of a kind wins."""

    async def requests(self, execution: str) -> list[CancelRequest]:
        """Commands queued and not yet settled by a terminal event."""

    async def claim(self, limit: int, capabilities: Capabilities) -> list[Claim]:
        """Takes over unfinished executions without a live owner that this server can run, oldest first, with a new
        fence each. Repeat until it returns fewer than `limit`."""

    async def renew(self) -> None:
        """Extends the leases of all executions this server owns."""

    async def release(self, execution: str, fence: int) -> None:
        """Gives an unfinished execution up, so that another server, or the next start, claims it at once."""

    async def blocked(self, tenant: str, capabilities: Capabilities) -> Mapping[str, str]:
        """Unfinished executions without an owner that nobody can run now, with the reason."""

    async def put_definition(self, definition: StoredDefinition) -> None:
        """Durable on return. A revision that is already there is left as it is."""

    async def get_definition(self, revision: str) -> StoredDefinition | None: ...

    async def count(self) -> Mapping[str, int]:
        """Executions by state, for statistics; cost must not grow with history beyond a counter table."""


class EventCodec(Protocol):
    """The byte form of events, `torana.v1.ExecutionEvent`. Pure."""

    def encode(self, execution: str, event: Event) -> bytes: ...

    def decode(self, data: bytes) -> Event: ...


class ResourceBinder(Protocol):
    """Turns what a request says about resources into what its execution keeps."""

    def bind(
        self,
        principal: Principal,
        requested: Mapping[str, Binding],
        required: Sequence[str],
        *,
        share_inline: bool = False,
    ) -> dict[str, Binding]:
        """Shared names become their references where they have one; required names that are shared under an equal
        name are added; `register_as` takes effect. With `share_inline` later requests may refer to this one's
        references as "@name".

        Raises InvalidRequestError, ResourceNotBoundError, ResourceNotFoundError or ConflictError; nothing is registered
        then.
        """
