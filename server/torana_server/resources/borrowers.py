"""Who holds what of a pool, and the error that says so when nothing is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torana_server.core.clock import Clock, Micros, to_datetime
from torana_server.core.errors import Reason, ResourceError

_HOLDERS_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True, eq=False)
class Borrower:
    """The attempt a resource is lent to. `resource` is the name the request gave it."""

    resource: str
    tenant: str
    execution: str
    step: str
    attempt: int
    clock: Clock


@dataclass(frozen=True, slots=True)
class Holding:
    borrower: Borrower
    since: Micros

    def __str__(self) -> str:
        who = self.borrower
        since = to_datetime(self.since).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"execution {who.execution} step '{who.step}' (attempt {who.attempt}) since {since}"


@dataclass(slots=True)
class Holdings:
    """The connections of one pool that are lent out now, by connection."""

    _held: dict[object, Holding] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._held)

    def add(self, connection: object, borrower: Borrower) -> None:
        self._held[connection] = Holding(borrower, borrower.clock.now())

    def remove(self, connection: object) -> None:
        """Removing what is not held does nothing: a lease's end and its step may both give a connection back."""
        self._held.pop(connection, None)

    def exhausted(self, borrower: Borrower, *, size: int, waited_s: float) -> ResourceError:
        """RESOURCE_POOL_EXHAUSTED: every one of `size` connections is lent out, longest held first.

        Of an operator's pool other tenants may hold some: of these it tells the number alone.
        """
        own = [holding for holding in self._held.values() if holding.borrower.tenant == borrower.tenant]
        holders = sorted(own, key=lambda holding: holding.since)
        return ResourceError(
            f"Resource '{borrower.resource}': all {size} connections of its pool are in use and none came back within "
            f"{waited_s:g} s. Held by {_listed(holders, len(self._held) - len(own))}. "
            "Hold connections for a shorter time, give them back with 'async with', or raise the pool's size in "
            "the resource's config.",
            reason=Reason.RESOURCE_POOL_EXHAUSTED,
            metadata={
                "resource": borrower.resource,
                "size": str(size),
                "holders": "; ".join(str(holding) for holding in holders[:_HOLDERS_SHOWN_MAX]),
            },
            retry_after_s=1.0,
        )


def lease_ended(borrower: Borrower) -> ResourceError:
    return ResourceError(
        f"Resource '{borrower.resource}': the attempt of step '{borrower.step}' it was lent to has ended; "
        "use resources only while the step runs.",
    )


def _listed(holders: Sequence[Holding], of_others: int) -> str:
    texts = [str(holding) for holding in holders[:_HOLDERS_SHOWN_MAX]]
    if len(holders) > _HOLDERS_SHOWN_MAX:
        texts.append(f"and {len(holders) - _HOLDERS_SHOWN_MAX} more")
    if of_others:
        texts.append(f"{of_others} by other tenants")
    return "; ".join(texts) or "connections that are being opened"
