"""The server about itself: what it is, how it is, what it counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from torana_server.access import LOCAL
from torana_server.core import limits
from torana_server.core.clock import Clock, Micros, to_datetime
from torana_server.core.errors import ToranaError
from torana_server.execution import Engine, Journal
from torana_server.resources import Resources, ResourceState, ResourceStatus
from torana_server.rpc import ComponentHealth, HealthStatus, ServerHealth, ServerInfo, ServerStats
from torana_server.settings import Settings
from torana_server.steps import LoopWatchdog

FEATURES = ("execute", "watch", "watch-many", "retry", "idempotency", "resources", "secrets", "reflection")
_STATUS_TEXTS = {status: status.name.lower() for status in HealthStatus}
_RESOURCE = "resource:"
_SEVERITY = (HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY)


class System:
    """`rpc.System` over the parts of the server."""

    def __init__(
        self,
        settings: Settings,
        server_id: str,
        clock: Clock,
        *,
        engine: Engine,
        journal: Journal,
        resources: Resources,
        watchdog: LoopWatchdog,
    ) -> None:
        self._settings = settings
        self._server_id = server_id
        self._clock = clock
        self._engine = engine
        self._journal = journal
        self._resources = resources
        self._watchdog = watchdog
        self._start = clock.now()
        self._since: dict[str, tuple[HealthStatus, Micros | None]] = {}

    def info(self) -> ServerInfo:
        settings = self._settings
        return ServerInfo(
            version=version("torana-server"),
            title=settings.title,
            description=settings.description,
            server_id=self._server_id,
            start_time=self._start,
            journal=self._journal.kind,
            durable=self._journal.durable,
            limits={
                "message_bytes": settings.message_bytes_max,
                "event_bytes": limits.EVENT_BYTES_MAX,
                "value_bytes": limits.INLINE_VALUE_BYTES_MAX,
                "events_per_execution": limits.EVENTS_PER_EXECUTION_MAX,
                "running_executions": settings.running_max,
                "queued_executions": settings.queued_max,
                "streams": settings.streams_max,
                "page_size": limits.PAGE_SIZE_MAX,
                "secret_bytes": limits.SECRET_BYTES_MAX,
            },
            features=FEATURES,
        )

    async def health(self) -> ServerHealth:
        vital = [await self._journal_health(), self._event_loop()]
        pools = await self._resources.list(LOCAL)
        resources = [self._resource(status) for status in pools if status.state is not ResourceState.IDLE]
        worst = max((component.status for component in vital), key=_SEVERITY.index)
        if worst is HealthStatus.HEALTHY and any(r.status is not HealthStatus.HEALTHY for r in resources):
            worst = HealthStatus.DEGRADED
        self._since = {component.name: (component.status, component.since) for component in (*vital, *resources)}
        return ServerHealth(status=worst, components=[*vital, *resources], draining=self._engine.draining)

    async def stats(self) -> ServerStats:
        values = await self._engine.counts()
        lag = self._watchdog.stats()
        loop = {"loop_lag_ms_max": round(lag.lag_ms_max), "loop_blocked_count": lag.blocked_count}
        return ServerStats(values=values | loop, since=self._start)

    async def _journal_health(self) -> ComponentHealth:
        began = time.perf_counter()
        error = ""
        try:
            await self._journal.position()
        except ToranaError as failure:
            error = failure.message
        status = HealthStatus.UNHEALTHY if error else HealthStatus.HEALTHY
        return self._component("journal", status, time.perf_counter() - began, error, self._start)

    def _event_loop(self) -> ComponentHealth:
        lag = self._watchdog.stats()
        return self._component("event_loop", HealthStatus.HEALTHY, lag.lag_ms_max / 1000, "", self._start)

    def _resource(self, status: ResourceStatus) -> ComponentHealth:
        unhealthy = status.state is ResourceState.UNHEALTHY
        health = HealthStatus.UNHEALTHY if unhealthy else HealthStatus.HEALTHY
        seen = status.check_time or self._clock.now()
        return self._component(f"{_RESOURCE}{status.name}", health, status.check_latency_s, status.last_error, seen)

    def _component(
        self, name: str, status: HealthStatus, latency_s: float | None, error: str, first: Micros
    ) -> ComponentHealth:
        """`first` is since when a status that nobody asked for before holds, if it is a good one."""
        before, since = self._since.get(name, (HealthStatus.HEALTHY, first))
        if before is not status:
            since = self._clock.now()
        return ComponentHealth(name=name, status=status, latency_s=latency_s, last_error=error, since=since)


def health_report(health: ServerHealth, resources: Sequence[ResourceStatus]) -> dict[str, Any]:
    """The same as plain JSON: `status`, `draining`, `components` by name and `resources` by name."""
    components = {component.name: component for component in health.components}
    return {
        "status": _STATUS_TEXTS[health.status],
        "draining": health.draining,
        "components": {
            name: {"status": _STATUS_TEXTS[component.status], **_facts(component)}
            for name, component in components.items()
            if not name.startswith(_RESOURCE)
        },
        "resources": {
            status.name: _resource_report(status, components.get(_RESOURCE + status.name)) for status in resources
        },
    }


def _resource_report(status: ResourceStatus, component: ComponentHealth | None) -> dict[str, Any]:
    return {
        "status": status.state.lower(),
        **_facts(component or ComponentHealth(name=status.name, status=HealthStatus.HEALTHY)),
        "type": status.type,
        "description": status.description,
        "leases": status.leases,
        "pool": dict(status.pool),
    }


def _facts(component: ComponentHealth) -> dict[str, Any]:
    latency_s, since = component.latency_s, component.since
    return {
        "latency_ms": None if latency_s is None else round(latency_s * 1_000, 3),
        "last_error": component.last_error,
        "since": None if since is None else to_datetime(since).isoformat(),
    }
