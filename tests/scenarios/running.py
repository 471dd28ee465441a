"""Both ways to run a workflow, with one shape of what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torana
import torana_server

Event = torana.Event | torana_server.Event
"""Both have the same members."""

Reference = dict[str, Any]
"""A resource as plain JSON, which both ways take."""

REFUSALS: Any = (torana.ToranaError, torana_server.ToranaError)
"""What a request that nothing was run for raises; each has `reason`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended. `result` is by step; `error` has `type`, `message`, `reason`, `step`, `attempt`."""

    status: str
    result: Mapping[str, Any]
    error: Any
    events: Sequence[Event]

    def of(self, kind: str, step: str = "") -> list[Event]:
        """The events of a kind, of one step if named, in their order."""
        return [event for event in self.events if event.kind == kind and step in ("", event.step)]

    def lines(self, step: str = "") -> list[str]:
        """What the steps logged."""
        return [event.data["message"] for event in self.of("step_log", step)]


class Run(Protocol):
    """Runs a workflow to its end. `options` are `resources`, `context`, `idempotency_key` …"""

    async def __call__(self, workflow: str, parameters: Mapping[str, Any], **options: Any) -> Outcome: ...

    async def store_secret(self, name: str, value: Mapping[str, Any]) -> None: ...


class Embedded:
    """In this process."""

    def __init__(self, gateway: torana_server.Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, workflow: str, parameters: Mapping[str, Any], **options: Any) -> Outcome:
        request = torana_server.WorkflowRequest(parameters=parameters, **options)
        response = await self._gateway.execute_workflow(workflow, request)
        events = [event async for event in self._gateway.watch(response.execution_id)]
        return Outcome(response.status, response.result, response.error, events)

    async def store_secret(self, name: str, value: Mapping[str, Any]) -> None:
        await self._gateway.secret_manager.store_secret(name, dict(value))


class OverGrpc:
    """In a server of another process."""

    def __init__(self, client: torana.Client) -> None:
        self._client = client

    async def __call__(self, workflow: str, parameters: Mapping[str, Any], **options: Any) -> Outcome:
        async with self._client.execute(workflow, parameters, **options) as stream:
            events = [event async for event in stream]
            ended = await stream.result()
        return Outcome(ended.status, ended.result, ended.error, events)

    async def store_secret(self, name: str, value: Mapping[str, Any]) -> None:
        await self._client.put_secret(name, value)
