"""The one object through which everything else uses resources."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError

from torana_server.access import Principal
from torana_server.core import logs
from torana_server.core.clock import Clock, idle
from torana_server.core.errors import (
    Reason,
    ResourceError,
    ResourceNotFoundError,
    ToranaError,
    TypeNotFoundError,
    Violation,
)
from torana_server.resources.binding import decide
from torana_server.resources.borrowers import Borrower
from torana_server.resources.config_rules import form_problems, parsed_config, reference_problems
from torana_server.resources.credentials import select_credentials
from torana_server.resources.leases import Leases
from torana_server.resources.pools import Lease, Pool, Pools, leased_by
from torana_server.resources.ports import SecretReader
from torana_server.resources.reference import Binding, ResourceReference
from torana_server.resources.registry import ResourceRegistry, Shared, SharedObject
from torana_server.resources.resolver import Resolved, ResourceResolver
from torana_server.resources.settings import ResourceSettings
from torana_server.resources.status import ResourceState, ResourceStatus
from torana_server.resources.targets import Target, TargetKeys
from torana_server.resources.type_registry import ResourceTypes

_log = logs.logger("resources")


class Resources:
    """References in, live objects out. Nothing of one tenant is reachable from another, but operators' objects.

    `resolver` is where every lease goes through. `redact` removes what the server knows to be secret from a text;
    drivers' texts go through it before they leave.
    """

    def __init__(
        self,
        registry: ResourceRegistry,
        types: ResourceTypes,
        secrets: SecretReader,
        *,
        resolver: ResourceResolver | None = None,
        clock: Clock,
        settings: ResourceSettings,
        redact: Callable[[str], str],
    ) -> None:
        self.registry = registry
        self.types = types
        self._resolver = resolver or ResourceResolver(registry, secrets)
        types.use(self._resolver.own_types)
        self._secrets = secrets
        self._clock = clock
        self._settings = settings
        self._keys = TargetKeys()
        self._pools = Pools(self._keys, clock, settings, redact)
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to close idle pools and to check live ones."""
        if self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.create_task(self._sweep_for_ever(), context=contextvars.Context())

    async def close(self) -> None:
        """Closes every pool. Idempotent; leases still out find their resources closed."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self._sweeping = None
        await self._pools.close()

    async def sweep(self) -> None:
        """One round of what `start` does all the time."""
        await self._pools.sweep()

    def problems(self, reference: ResourceReference) -> list[Violation]:
        """Everything wrong with the reference, without IO. Paths are relative to it: `type`, `config.port`.

        A resolver whose `resolve` was replaced answers for all types: then only the form is looked at.
        """
        if self._resolver.is_replaced:
            return form_problems(reference)
        try:
            resource_type = self.types.get(reference.type)
        except TypeNotFoundError as error:
            return [Violation("type", error.message)]
        return reference_problems(reference, resource_type)

    def bind(
        self,
        principal: Principal,
        requested: Mapping[str, Binding],
        required: Sequence[str],
        *,
        share_inline: bool = False,
    ) -> dict[str, Binding]:
        """What each name of a request means, complete enough to be stored with the execution.

        Shared names become the references registered under them (operators' objects stay names), required names that
        are not requested are taken from shared names equal to them, and `register_as` is carried out. With
        `share_inline`, "@name" stands for the request's references in later requests. Raises
        InvalidRequestError with all violations, ConflictError (RESOURCE_CONFLICT), ResourceNotFoundError for an
        unknown `@name`, ResourceNotBoundError naming what is missing, ExhaustedError when the tenant has too many
        shared names. Nothing is registered when anything is refused.
        """
        # What a replaced resolver took without a look may mean nothing to the next one.
        share_inline = share_inline and not self._resolver.is_replaced
        decision = decide(
            self.registry, principal.tenant, requested, required, self.problems, share_inline=share_inline
        )
        names_max = self._settings.names_per_tenant_max
        self.registry.register_all(decision.registrations, tenant=principal.tenant, names_max=names_max)
        if decision.remembered:
            self.registry.remember(principal.tenant, decision.remembered, names_max=names_max)
        return decision.bindings

    def open(
        self,
        principal: Principal,
        bindings: Mapping[str, Binding],
        *,
        execution: str,
        step: str,
        attempt: int,
        allowed: frozenset[str] | None,
    ) -> Leases:
        """The resources of one attempt; opens nothing yet. `allowed` are the names the step declared, None for all."""

        def borrower(name: str) -> Borrower:
            return Borrower(name, principal.tenant, execution, step, attempt, self._clock)

        async def lend(binding: Binding, borrower: Borrower) -> Lease:
            return await self._lend(principal, binding, borrower)

        return Leases(bindings, allowed, borrower=borrower, resolver=self._resolver, lend=lend, pools=self._pools)

    async def list(self, principal: Principal) -> list[ResourceStatus]:
        """Shared names and live pools of the tenant, by name. Opens nothing."""
        shared = self.registry.shared(principal.tenant)
        statuses = [self._shared_status(principal, entry) for entry in shared]
        named = {self._shared_pool(principal.tenant, entry) for entry in shared}
        statuses += [
            self._pool_status(principal, pool)
            for pool in self._pools.all()
            if pool.target.tenant == principal.tenant and pool not in named
        ]
        return sorted(statuses, key=lambda status: status.name)

    async def get(self, principal: Principal, name: str) -> ResourceStatus:
        """Raises ResourceNotFoundError."""
        return self._status(principal, name)

    async def check(self, principal: Principal, name: str) -> ResourceStatus:
        """Checks the live pool, if there is one. A failed check is an answer. Raises ResourceNotFoundError."""
        pool = self._pool(principal, name)
        if pool is not None:
            await self._pools.check(pool)
        return self._status(principal, name)

    async def check_all(self, principal: Principal) -> None:
        """Checks every live pool that the tenant can see. Opens nothing; failed checks are answers."""
        await self._pools.check_all(principal.tenant)

    async def drain(self, principal: Principal, name: str) -> ResourceStatus:
        """The live pool takes no new leases and closes with its last; the next lease opens a new one.

        Raises ResourceNotFoundError, and ToranaError (PERMISSION_DENIED) for an operator's object, which other tenants
        use too, without the role `admin`.
        """
        if isinstance(self.registry.get(principal.tenant, name), SharedObject) and "admin" not in principal.roles:
            raise ToranaError(
                f"Resource '{name}' is shared by all tenants; draining it needs the role 'admin'.",
                reason=Reason.PERMISSION_DENIED,
            )
        pool = self._pool(principal, name)
        if pool is None:
            return self._status(principal, name)
        self._pools.drain(pool)
        return self._pool_status(principal, pool, name=name)

    async def _sweep_for_ever(self) -> None:
        while True:
            with idle():
                await asyncio.sleep(self._settings.sweep_interval_s)
            try:
                await self._pools.sweep()
            except Exception:  # noqa: BLE001 — the loop must outlive one bad round
                _log.exception("looking after the resource pools failed; trying again")

    async def _lend(self, principal: Principal, binding: Binding, borrower: Borrower) -> Lease:
        target = self._target(principal.tenant, binding, borrower.resource)
        version = 0
        if target.credentials_ref:
            version = await self._secrets.current_version(principal, target.credentials_ref)

        async def credentials() -> tuple[Mapping[str, object], int]:
            return await self._credentials(principal, target, borrower)

        lease = await self._pools.lease(target, version, borrower, credentials)
        if isinstance(lease.pool.resource, Resolved) and isinstance(binding, ResourceReference):
            self._remember_resolved(principal.tenant, lease.pool.resource, binding)
        return lease

    def _remember_resolved(self, tenant: str, resolved: Resolved, reference: ResourceReference) -> None:
        names = {registration.name: reference for registration in resolved.registrations}
        self.registry.remember(tenant, names, names_max=self._settings.names_per_tenant_max)

    async def _credentials(
        self, principal: Principal, target: Target, borrower: Borrower
    ) -> tuple[Mapping[str, object], int]:
        if not target.credentials_ref:
            return target.credentials, 0
        purpose = f"execution {borrower.execution} step {borrower.step} resource {borrower.resource}"
        secret, version = await self._secrets.read(principal, target.credentials_ref, purpose=purpose)
        selected = select_credentials(
            secret.reveal(),
            fields=target.type.credential_fields,
            plain_field=target.type.plain_credential,
            key=target.credentials_key,
            host=target.type.provider_host(target.config),
        )
        return selected, version

    def _target(self, tenant: str, binding: Binding, name: str) -> Target:
        if isinstance(binding, ResourceReference):
            return self._reference_target(tenant, binding, name)
        shared = self.registry.get(tenant, binding.name)
        if shared is None:
            raise _not_found(f"@{binding.name}")
        return self._shared_target(tenant, shared)

    def _shared_target(self, tenant: str, shared: Shared) -> Target:
        if isinstance(shared, SharedObject):
            return self._keys.operators(shared)
        return self._reference_target(tenant, shared.reference, shared.name)

    def _reference_target(self, tenant: str, reference: ResourceReference, name: str) -> Target:
        try:
            resource_type = self.types.get(reference.type)
            config = parsed_config(reference.config, resource_type)
        except (TypeNotFoundError, ValidationError):
            raise ResourceError(
                f"Resource '{name}' does not fit this server's resource types.",
                violations=self.problems(reference),
                metadata={"resource": name, "resourceType": reference.type},
            ) from None
        return self._keys.reference(tenant, resource_type, config, reference)

    def _pool(self, principal: Principal, name: str) -> Pool | None:
        shared = self.registry.get(principal.tenant, name)
        if shared is not None:
            return self._shared_pool(principal.tenant, shared)
        for pool in self._pools.all():
            if pool.name == name and pool.target.tenant == principal.tenant:
                return pool
        raise _not_found(name)

    def _status(self, principal: Principal, name: str) -> ResourceStatus:
        shared = self.registry.get(principal.tenant, name)
        if shared is not None:
            return self._shared_status(principal, shared)
        pool = self._pool(principal, name)
        if pool is None:
            raise _not_found(name)
        return self._pool_status(principal, pool)

    def _shared_pool(self, tenant: str, shared: Shared) -> Pool | None:
        """The live pool. What the operator registered may fit no type; then there can be none."""
        try:
            return self._pools.of_line(self._shared_target(tenant, shared).line)
        except ResourceError:
            return None

    def _shared_status(self, principal: Principal, shared: Shared) -> ResourceStatus:
        try:
            target = self._shared_target(principal.tenant, shared)
        except ResourceError as error:
            return _unusable(shared, error)
        reserved = isinstance(shared, SharedObject) or shared.reserved
        pool = self._pools.of_line(target.line)
        if pool is not None:
            return self._pool_status(principal, pool, name=shared.name, reserved=reserved)
        return ResourceStatus(
            name=shared.name,
            type=target.type.name,
            description=target.description,
            state=ResourceState.IDLE,
            credentials_ref=target.credentials_ref,
            reserved=reserved,
        )

    def _pool_status(
        self, principal: Principal, pool: Pool, *, name: str = "", reserved: bool = False
    ) -> ResourceStatus:
        health = pool.health
        return ResourceStatus(
            name=name or pool.name,
            type=pool.target.type.name,
            description=pool.target.description,
            state=_state(pool),
            leases=leased_by([pool], principal.tenant),
            check_latency_s=health.latency_s if health else None,
            check_time=health.time if health else None,
            last_error=health.error if health else "",
            pool=pool.target.type.stats(pool.resource),
            credentials_ref=pool.target.credentials_ref,
            reserved=reserved,
        )


def _state(pool: Pool) -> ResourceState:
    if pool.draining:
        return ResourceState.DRAINING
    return ResourceState.HEALTHY if pool.healthy else ResourceState.UNHEALTHY


def _unusable(shared: Shared, error: ResourceError) -> ResourceStatus:
    """One registration that is wrong must not hide how all the others are."""
    wrong = "; ".join(f"{violation.path}: {violation.message}" for violation in error.violations)
    return ResourceStatus(
        name=shared.name,
        type=error.metadata.get("resourceType", ""),
        description="",
        state=ResourceState.UNHEALTHY,
        last_error=f"{error.message} {wrong}",
        reserved=True,
    )


def _not_found(name: str) -> ResourceNotFoundError:
    return ResourceNotFoundError(f"There is no resource '{name}'.", metadata={"resource": name})
