"""The resources of one attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from torana_server.core.errors import Reason, ResourceError
from torana_server.resources.borrowers import Borrower, lease_ended
from torana_server.resources.pools import Lease, Pools
from torana_server.resources.reference import Binding
from torana_server.resources.resolver import ResourceResolver

Lend = Callable[[Binding, Borrower], Awaitable[Lease]]


class Leases:
    """Made by `Resources.open` and released when the attempt ends, however it ends."""

    def __init__(
        self,
        bindings: Mapping[str, Binding],
        allowed: frozenset[str] | None,
        *,
        borrower: Callable[[str], Borrower],
        resolver: ResourceResolver,
        lend: Lend,
        pools: Pools,
    ) -> None:
        self._bindings = bindings
        self._allowed = allowed
        self._borrower = borrower
        self._resolver = resolver
        self._lend = lend
        self._pools = pools
        self._given: dict[str, object] = {}
        self._held: dict[str, Lease] = {}
        self._released = False

    async def get(self, name: str) -> object:
        """The live object bound to `name`: the same one each time within this attempt.

        Raises ResourceError: RESOURCE_NOT_DECLARED for a name the step may not use or nothing is bound to,
        RESOURCE_UNAVAILABLE, CREDENTIALS_NOT_FOUND; SecretNotFoundError; ResourceNotFoundError for a shared name that
        is gone.
        """
        if name in self._given and not self._released:
            return self._given[name]
        borrower = self._borrower(name)
        if self._released:
            raise lease_ended(borrower)
        binding = self._declared(name)
        resource = await self._resolver.resolve(binding, partial(self._lease, name, binding, borrower))
        if self._released:
            raise lease_ended(borrower)
        return self._given.setdefault(name, resource)

    async def release(self) -> None:
        """Returns everything. Idempotent; never raises, but for the caller's own cancellation, after which the rest is
        returned in the background."""
        self._released = True
        self._given.clear()
        while self._held:
            _, lease = self._held.popitem()
            try:
                await self._pools.give_back(lease)
            except BaseException:
                self._pools.finish_in_background(self.release())
                raise

    async def _lease(self, name: str, binding: Binding, borrower: Borrower) -> object:
        lease = await self._lend(binding, borrower)
        if self._released:
            await self._pools.give_back(lease)
            raise lease_ended(borrower)
        first = self._held.setdefault(name, lease)
        if first is not lease:  # asked for twice at once
            await self._pools.give_back(lease)
        return first.resource

    def _declared(self, name: str) -> Binding:
        usable = self._bindings.keys() if self._allowed is None else self._bindings.keys() & self._allowed
        if name in usable:
            return self._bindings[name]
        listed = ", ".join(sorted(usable)) or "none"
        if self._allowed is not None and name not in self._allowed:
            cause = "is not among the step's required_resources"
        else:
            cause = "is not bound by the request"
        raise ResourceError(
            f"Resource '{name}' {cause}; the step can use: {listed}.",
            reason=Reason.RESOURCE_NOT_DECLARED,
            metadata={"resource": name},
        )
