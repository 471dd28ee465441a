"""Live pools: opened once, lent out and counted, checked, replaced, drained and closed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torana_server.core import logs
from torana_server.core.clock import Clock, Micros, seconds
from torana_server.core.errors import Reason, ResourceError, ToranaError
from torana_server.resources.borrowers import Borrower
from torana_server.resources.redaction import Scrub, error_text, scrubber
from torana_server.resources.settings import ResourceSettings
from torana_server.resources.targets import Target, TargetKeys

_log = logs.logger("resources")

_FAILURES_KEPT_S = 60.0
"""How long a failure's doubled delay is remembered after it ran out."""
_SHUTTING_DOWN = "the server is shutting down"

Credentials = Callable[[], Awaitable[tuple[Mapping[str, object], int]]]
"""Fetches the selected credentials and the version of the secret they are from."""


@dataclass(frozen=True, slots=True)
class Health:
    latency_s: float
    time: Micros
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    pool: Pool
    borrower: Borrower
    resource: object


@dataclass(slots=True, eq=False)
class Pool:
    """One opened resource. `leases` are those not yet given back; `scrub` knows the credentials it was opened with."""

    key: bytes
    target: Target
    version: int
    resource: object = field(repr=False)
    scrub: Scrub = field(repr=False)
    health_check_interval_s: float
    idle_since: Micros
    check_due: Micros
    leases: set[Lease] = field(default_factory=set, repr=False)
    draining: bool = False
    health: Health | None = None

    @property
    def name(self) -> str:
        return f"pool-{self.key.hex()}"

    @property
    def healthy(self) -> bool:
        return self.health is None or not self.health.error


@dataclass(frozen=True, slots=True)
class Failure:
    """Why opening failed. Until `until` nobody tries again."""

    reason: Reason
    text: str
    at: Micros
    until: Micros
    delay_s: float


@dataclass(frozen=True, slots=True)
class Opening:
    tenant: str
    task: asyncio.Task[Pool | Failure]


class Pools:
    """Every change of state happens between two awaits, so that no lock is needed.

    Tasks run in an empty context: drivers keep the context their connections were opened in, and it must not be that
    of the first caller.
    """

    def __init__(self, keys: TargetKeys, clock: Clock, settings: ResourceSettings, redact: Scrub) -> None:
        self._keys = keys
        self._clock = clock
        self._settings = settings
        self._redact = redact
        self._live: dict[bytes, Pool] = {}
        self._lines: dict[bytes, Pool] = {}
        self._draining: set[Pool] = set()
        self._openings: dict[bytes, Opening] = {}
        self._failures: dict[bytes, Failure] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def lease(self, target: Target, version: int, borrower: Borrower, credentials: Credentials) -> Lease:
        """Lends the pool of this target and secret version, opening it if there is none.

        Raises ResourceError (RESOURCE_UNAVAILABLE, CREDENTIALS_NOT_FOUND) in the borrower's words, and whatever
        `credentials` raises. The pool may use a later version than asked for, never an earlier one.
        """
        key = self._keys.pool(target.line, version)
        started, reused = time.perf_counter(), True
        while True:
            if self._closed:
                raise self._unavailable(target, borrower, _SHUTTING_DOWN)
            pool = self._usable(key)
            if pool is None:
                reused = False
                pool = await self._opened(key, target, borrower, credentials)
            if not pool.draining:
                lease = self._lend(pool, target, borrower)
                _trace(lease, reused=reused, duration_s=time.perf_counter() - started)
                return lease

    async def give_back(self, lease: Lease) -> None:
        """Never raises, but for the caller's own cancellation; the lease is returned then, too."""
        pool = lease.pool
        try:
            async with asyncio.timeout(self._settings.close_timeout_s):
                await pool.target.type.take_back(pool.resource, lease.resource)
        except Exception as error:  # noqa: BLE001 — whatever a type's clean-up does, the count must come out right
            self._report(pool, "took a lease back with an error", error)
        finally:
            self._returned(lease)

    def live(self) -> list[Pool]:
        return list(self._live.values())

    def all(self) -> list[Pool]:
        return [*self._live.values(), *self._draining]

    def of_line(self, line: bytes) -> Pool | None:
        """The newest live pool of a line."""
        return self._lines.get(line)

    def drain(self, pool: Pool) -> None:
        """No new leases; closes when the last is returned. Draining twice does nothing."""
        if pool.draining:
            return
        pool.draining = True
        self._live.pop(pool.key, None)
        if self._lines.get(pool.target.line) is pool:
            del self._lines[pool.target.line]
        self._draining.add(pool)
        self._close_if_unused(pool)

    async def check(self, pool: Pool) -> Health:
        """Checks now. A failed check is an answer, not an error."""
        started = time.perf_counter()
        error = await self._run_check(pool)
        now = self._clock.now()
        pool.health = Health(time.perf_counter() - started, now, error)
        pool.check_due = Micros(now + seconds(pool.health_check_interval_s))
        return pool.health

    async def check_all(self, tenant: str) -> None:
        """Checks the live pools of a tenant, and the operators' own, at the same time."""
        pools = [pool for pool in self.live() if pool.target.tenant in ("", tenant)]
        await asyncio.gather(*(self._spawn(self.check(pool)) for pool in pools))

    async def sweep(self) -> None:
        """Drains pools that are idle for too long, checks those that are due, forgets old failures."""
        now = self._clock.now()
        for pool in self.live():
            if self._idle_too_long(pool, now):
                self.drain(pool)
        self._failures = {
            key: failure for key, failure in self._failures.items() if now < failure.until + seconds(_FAILURES_KEPT_S)
        }
        due = [pool for pool in self.live() if now >= pool.check_due]
        await asyncio.gather(*(self._spawn(self.check(pool)) for pool in due))

    async def close(self) -> None:
        """Closes every pool, leased or not, and waits for it. Idempotent."""
        self._closed = True
        for opening in tuple(self._openings.values()):
            opening.task.cancel()
        pools = self.all()
        self._live.clear()
        self._lines.clear()
        self._draining.clear()
        for pool in pools:
            pool.draining = True
            self._spawn(self._close(pool))
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def finish_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        self._spawn(work)

    def _usable(self, key: bytes) -> Pool | None:
        pool = self._live.get(key)
        if pool is not None and not pool.healthy:
            self.drain(pool)
            return None
        return pool

    def _lend(self, pool: Pool, target: Target, borrower: Borrower) -> Lease:
        lease = Lease(pool, borrower, target.type.lend(pool.resource, borrower))
        pool.leases.add(lease)
        if target.health_check_interval_s is not None and target.health_check_interval_s < pool.health_check_interval_s:
            pool.health_check_interval_s = target.health_check_interval_s
            pool.check_due = Micros(min(pool.check_due, self._clock.now() + seconds(pool.health_check_interval_s)))
        return lease

    def _returned(self, lease: Lease) -> None:
        pool = lease.pool
        pool.leases.discard(lease)
        if not pool.leases:
            pool.idle_since = self._clock.now()
            self._close_if_unused(pool)

    def _close_if_unused(self, pool: Pool) -> None:
        if not pool.leases and pool in self._draining:
            self._draining.discard(pool)
            self._spawn(self._close(pool))

    def _idle_too_long(self, pool: Pool, now: Micros) -> bool:
        idle = now - pool.idle_since
        return not pool.leases and not pool.target.kept_open and idle >= seconds(self._settings.idle_timeout_s)

    async def _opened(self, key: bytes, target: Target, borrower: Borrower, credentials: Credentials) -> Pool:
        failure = self._failures.get(key)
        if failure is not None and failure.at <= self._clock.now() < failure.until:
            raise self._failed(target, borrower, failure)
        opening = self._openings.get(key)
        if opening is None:
            self._require_room(target, borrower)
            errand = logs.Errand()
            opening = Opening(target.tenant, self._spawn(self._open(key, target, credentials), errand.context()))
            opening.task.add_done_callback(lambda _: errand.end())
            self._openings[key] = opening
            opening.task.add_done_callback(lambda _: self._openings.pop(key, None))
        # A caller that gives up leaves the opening to the others that wait for it.
        await asyncio.wait([opening.task])
        if opening.task.cancelled():
            raise self._unavailable(target, borrower, _SHUTTING_DOWN)
        outcome = opening.task.result()
        if isinstance(outcome, Failure):
            raise self._failed(target, borrower, outcome)
        return outcome

    async def _open(self, key: bytes, target: Target, credentials: Credentials) -> Pool | Failure:
        try:
            selected, version = await credentials()
        except ResourceError as error:  # not remembered: the secret may be put right at any moment
            now = self._clock.now()
            return Failure(error.reason, error.message, now, now, 0.0)
        key_read = self._keys.pool(target.line, version)
        if (existing := self._usable(key_read)) is not None:
            return existing
        scrub = scrubber(selected, self._redact)
        try:
            async with asyncio.timeout(self._settings.open_timeout_s):
                resource = await target.type.open(target.config, selected)
        except Exception as error:  # noqa: BLE001 — drivers raise what they like; here it becomes a reason and a text
            return self._remember(key, target, error, scrub)
        self._failures.pop(key, None)
        return self._installed(key_read, target, version, resource, scrub)

    def _installed(self, key: bytes, target: Target, version: int, resource: object, scrub: Scrub) -> Pool:
        now = self._clock.now()
        interval_s = target.health_check_interval_s or self._settings.health_check_interval_s
        due = Micros(now + seconds(interval_s))
        pool = Pool(key, target, version, resource, scrub, interval_s, idle_since=now, check_due=due)
        existing = self._usable(key)
        if existing is not None:  # two versions asked for, the same one read
            self._spawn(self._close(pool))
            return existing
        self._live[key] = pool
        older = self._lines.get(target.line)
        if older is None or older.version <= version:
            self._lines[target.line] = pool
            if older is not None:
                self.drain(older)
        return pool

    def _remember(self, key: bytes, target: Target, error: Exception, scrub: Scrub) -> Failure:
        before = self._failures.get(key)
        delay_s = min(before.delay_s * 2, self._settings.failure_memory_max_s) if before else None
        delay_s = delay_s or self._settings.failure_memory_s
        reason, text = self._explained(error, scrub)
        now = self._clock.now()
        failure = Failure(reason, text, now, Micros(now + seconds(delay_s)), delay_s)
        self._failures[key] = failure
        name = target.type.name
        stack = None if _speaks_for_itself(error) else _scrubbed(error, text)
        _log.warning("%s %s could not be opened: %s", name, target.description, text, exc_info=stack)
        return failure

    def _explained(self, error: Exception, scrub: Scrub) -> tuple[Reason, str]:
        if isinstance(error, ToranaError):
            return error.reason, scrub(error.message)
        if isinstance(error, TimeoutError) and not str(error):
            return Reason.RESOURCE_UNAVAILABLE, "no answer in time"
        return Reason.RESOURCE_UNAVAILABLE, scrub(error_text(error))

    def _failed(self, target: Target, borrower: Borrower, failure: Failure) -> ResourceError:
        wait_s = max(0.0, (failure.until - self._clock.now()) / 1_000_000)
        return self._unavailable(target, borrower, failure.text, reason=failure.reason, retry_after_s=wait_s)

    def _unavailable(
        self,
        target: Target,
        borrower: Borrower,
        text: str,
        *,
        reason: Reason = Reason.RESOURCE_UNAVAILABLE,
        retry_after_s: float | None = None,
    ) -> ResourceError:
        return ResourceError(
            f"Resource '{borrower.resource}' ({target.type.name} {target.description}) is not available: {text}",
            reason=reason,
            metadata={"resource": borrower.resource, "resourceType": target.type.name},
            retry_after_s=retry_after_s,
        )

    def _require_room(self, target: Target, borrower: Borrower) -> None:
        if self._pools_of(target.tenant) >= self._settings.pools_per_tenant_max:
            self._make_room(target.tenant)
        if self._pools_of(target.tenant) >= self._settings.pools_per_tenant_max:
            limit = self._settings.pools_per_tenant_max
            raise self._unavailable(
                target, borrower, f"the tenant has {limit} open pools in use, the most there may be", retry_after_s=1.0
            )

    def _pools_of(self, tenant: str) -> int:
        opening = sum(opening.tenant == tenant for opening in self._openings.values())
        return opening + sum(pool.target.tenant == tenant for pool in self.all())

    def _make_room(self, tenant: str) -> None:
        unused = [pool for pool in self.live() if pool.target.tenant == tenant and not pool.leases]
        if unused:
            self.drain(min(unused, key=lambda pool: pool.idle_since))

    async def _run_check(self, pool: Pool) -> str:
        try:
            async with asyncio.timeout(self._settings.health_check_timeout_s) as limit:
                await pool.target.type.check(pool.resource)
        except Exception as error:  # noqa: BLE001 — the answer of a failed check
            if limit.expired():
                return f"no answer within {self._settings.health_check_timeout_s:g} s"
            return pool.scrub(error_text(error))
        return ""

    async def _close(self, pool: Pool) -> None:
        try:
            async with asyncio.timeout(self._settings.close_timeout_s):
                await pool.target.type.close(pool.resource)
        except Exception as error:  # noqa: BLE001 — nobody waits for this task
            self._report(pool, "did not close well", error)

    def _report(self, pool: Pool, what: str, error: Exception) -> None:
        name, scrubbed = pool.target.type.name, _scrubbed(error, pool.scrub(error_text(error)))
        _log.error("%s %s %s", name, pool.target.description, what, exc_info=scrubbed, extra={"pool": pool.name})

    def _spawn(self, work: Coroutine[Any, Any, Any], context: contextvars.Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, context=context or contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_retrieve)
        return task


def _speaks_for_itself(error: Exception) -> bool:
    """Whether it is a driver's word about the outside world. Python's own errors are mistakes in code, whose place
    matters."""
    return isinstance(error, OSError) or type(error).__module__ != "builtins"


def _scrubbed(error: Exception, text: str) -> ResourceError:
    """The stack of a driver's error without its own words and causes, which may repeat what it was told."""
    return ResourceError(text).with_traceback(error.__traceback__)


def _trace(lease: Lease, *, reused: bool, duration_s: float) -> None:
    if not _log.isEnabledFor(logging.DEBUG):
        return
    target = lease.pool.target
    fields = {
        "resource": lease.borrower.resource,
        "resource_type": target.type.name,
        "target": target.description,
        "pool": lease.pool.name,
        "reused": reused,
        "duration_ms": round(duration_s * 1_000, 3),
    }
    _log.debug("resource resolved", extra=fields)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Its waiters get the error; if all of them have gone, nobody is told that nobody was."""
    if not task.cancelled():
        task.exception()


def leased_by(pools: Iterable[Pool], tenant: str) -> int:
    return sum(lease.borrower.tenant == tenant for pool in pools for lease in pool.leases)
