"""A whole Torana inside a test."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import torana
from torana_server.app import Parts
from torana_server.gateway import Gateway
from torana_server.request import WorkflowRequest
from torana_server.resources import ResourceRegistry, ResourceResolver
from torana_server.settings import Settings
from torana_server.testing.application import MemoryApplication
from torana_server.testing.disk import MemoryDisk
from torana_server.testing.http import FakeHttpApi
from torana_server.testing.recording import Recording
from torana_server.workflow import Definition, Workflow


class MemoryGateway(Gateway):
    """A `Gateway` whose journal, vault and key are in memory. It reads no environment, configures no logging, and
    follows virtual time where the event loop has it.

    `resources` are fakes, or any other objects, by the names that steps use: see `bind`. Closing it cancels what
    still runs, unless `settings` say otherwise.
    """

    _app: MemoryApplication

    def __init__(
        self,
        *,
        resources: Mapping[str, object] | None = None,
        settings: Settings | None = None,
        resource_registry: ResourceRegistry | None = None,
        resource_resolver: ResourceResolver | type[ResourceResolver] | None = None,
        disk: MemoryDisk | None = None,
    ) -> None:
        """`disk` is what an earlier gateway left: this one goes on with its executions and has its secrets."""
        self.disk = disk or MemoryDisk()
        super().__init__(
            resource_registry=resource_registry,
            resource_resolver=resource_resolver,
            settings=settings or Settings.model_construct(drain_grace_s=0.0),
            enable_durability=False,
        )
        self._apis: list[FakeHttpApi] = []
        for name, resource in (resources or {}).items():
            self.bind(name, resource)

    def _application(self, parts: Parts) -> MemoryApplication:
        return MemoryApplication(self.settings, parts, self.disk)

    async def __aenter__(self) -> MemoryGateway:
        await self.start()
        return self

    def bind(self, name: str, resource: object) -> None:
        """Steps that ask for `name` get this object, whatever a request says the name refers to, and also when it says
        nothing. A FakeHttpApi gives them its client. Raises ConflictError for a name that is taken."""
        if isinstance(resource, FakeHttpApi):
            self._apis.append(resource)
            self.resource_registry.register_factory(name, resource.create)
        else:
            self.resource_registry.register_factory(name, lambda: resource)
        self._app.fakes.add(name)

    async def record(
        self, workflow: str | Workflow | Definition, request: WorkflowRequest | Mapping[str, object] | None = None
    ) -> Recording:
        """Runs a workflow to its end and returns everything that happened. A mapping is the request's parameters; a
        workflow that is not a name is registered first."""
        if not isinstance(workflow, str):
            workflow = self.register(workflow)
        if not isinstance(request, WorkflowRequest):
            request = WorkflowRequest(parameters=request or {})
        response = await self.execute_workflow(workflow, request)
        return await self.recording(response.execution_id)

    def register(self, workflow: Workflow | Definition) -> str:
        """Registers a workflow under its own name; the name."""
        definition = workflow.definition if isinstance(workflow, Workflow) else workflow
        self.register_workflow(definition.name, workflow, description=definition.description)
        return definition.name

    async def recording(self, execution_id: str) -> Recording:
        """Everything that happened in an execution; waits for its end. Raises ExecutionNotFoundError."""
        events = [event async for event in self.watch(execution_id)]
        ended = await self.get_execution(execution_id)
        return Recording(ended.workflow, await self.wait(execution_id), tuple(events))

    async def serve(self, address: str | None = "127.0.0.1:0") -> int:
        """Listens for gRPC on a free port, in the background until `close`; the port."""
        threshold = gc.get_threshold()
        try:
            return await super().serve(address)
        finally:
            # A server settles the collector for its lifetime; this process has others.
            gc.unfreeze()
            gc.set_threshold(*threshold)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[torana.Client]:
        """A client of this gateway over gRPC, as another program has it."""
        async with torana.Client(f"127.0.0.1:{await self.serve()}") as client:
            yield client

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            for api in self._apis:
                await api.close()

    async def crash(self) -> None:
        """The gateway is gone as a killed process is, but that running steps are cancelled: it records nothing more.
        `MemoryGateway(disk=gateway.disk)`, with the same workflows, goes on from what is in the journal."""
        self._closed, self._starting = True, None
        await self._app.crash()
