"""The embedding face: a whole server inside a Python program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from torana_server.access import LOCAL
from torana_server.app import Application, Parts
from torana_server.core import logs
from torana_server.core.errors import InvalidWorkflowError, Reason, StateError
from torana_server.executing import Executing
from torana_server.resources import ResourceRegistry, ResourceResolver, ResourceType
from torana_server.settings import Settings, current_settings
from torana_server.signals import first_of, stop_signals
from torana_server.steps import StepType
from torana_server.system import health_report
from torana_server.telemetry import configure_logging
from torana_server.vault import SecretManager
from torana_server.workflow import Definition, RegisteredWorkflow, Workflow

logger = logs.logger("gateway")


class Gateway(Executing):
    """Registers workflows and runs them, in this process and for callers over gRPC.

    Works at once: it starts on first use, or with `await start()`, or with `async with`. It keeps its journal and
    vault in `data_dir` (`./torana-data`), or in memory with `enable_durability=False`. One process at a time may have
    a folder: a second one gets StateError (JOURNAL_IN_USE).
    """

    def __init__(
        self,
        *,
        resource_registry: ResourceRegistry | None = None,
        secret_manager: SecretManager | None = None,
        title: str | None = None,
        description: str | None = None,
        enable_durability: bool = True,
        data_dir: str | Path | None = None,
        settings: Settings | None = None,
        resource_resolver: ResourceResolver | type[ResourceResolver] | None = None,
        share_inline_resources: bool = True,
    ) -> None:
        """`settings` is the base; the other arguments, where given, stand above it.

        `resource_resolver` is a subclass of ResourceResolver, or an instance of one. With `share_inline_resources`,
        the references of a request to this object are known to later requests under their names in it, as "@name".
        """
        changes: dict[str, Any] = {"title": title, "description": description}
        if data_dir is not None:
            changes["data_dir"] = Path(data_dir)
        if not enable_durability:
            changes["journal"] = "memory"
        chosen = {name: value for name, value in changes.items() if value is not None}
        self.settings = (settings or current_settings()).model_copy(update=chosen)
        if isinstance(resource_resolver, ResourceResolver):
            resource_registry = resource_registry or resource_resolver.resource_registry
            secret_manager = secret_manager or resource_resolver.secret_manager
        self.resource_registry = resource_registry or ResourceRegistry()
        parts = Parts(
            resource_registry=self.resource_registry, secrets=secret_manager, resource_resolver=resource_resolver
        )
        self._app = self._application(parts)
        self.secret_manager = self._app.secrets
        self._resource_resolver = self._app.resolver
        self._engine, self._codec, self._registered = self._app.engine, self._app.codec, self._app.workflows
        self._share_inline = share_inline_resources
        self._closed = False
        self._starting: asyncio.Task[None] | None = None

    def _application(self, parts: Parts) -> Application:
        """The server behind this face. Gateways of tests have another."""
        return Application(self.settings, parts)

    @property
    def workflows(self) -> Mapping[str, RegisteredWorkflow]:
        """The registered workflows by name, each at its current revision."""
        return {workflow.definition.name: workflow for workflow in self._app.workflows.all()}

    def register_workflow(
        self,
        name: str,
        workflow: Workflow | Definition,
        required_resources: list[str] | None = None,
        description: str = "",
        metadata: Mapping[str, object] | None = None,
    ) -> RegisteredWorkflow:
        """Compiles and registers. Raises InvalidWorkflowError with every problem.

        `metadata` is the operator's to change later: `gateway.workflows[name].metadata["debug"] = True`.
        """
        if not isinstance(workflow, Workflow | Definition):
            kind = type(workflow).__name__
            raise InvalidWorkflowError(f"{kind} is no workflow; give what WorkflowBuilder's build() returns.")
        if isinstance(workflow, Workflow):
            for key, function in workflow.functions.items():
                function_name, _, version = key.rpartition("@")
                self._app.functions.register(function_name, function, version)
            self._engine.offers_changed()
        return self._app.workflows.register(
            workflow,
            name=name,
            required_resources=required_resources,
            description=description,
            metadata=metadata,
        )

    def unregister_workflow(self, name: str) -> None:
        """Takes a workflow away: no execution of it starts any more, those that run go on. Raises
        WorkflowNotFoundError."""
        self._app.workflows.unregister(name)

    def workflow_schema(self) -> dict[str, Any]:
        """The JSON Schema of workflow files, with the config of every step type there is here."""
        return self._app.workflow_schema()

    def register_function(self, name: str, function: Callable[..., Any], version: str = "1") -> None:
        """Makes a function available to `function` steps and, by its name, to source steps."""
        self._app.functions.register(name, function, version)
        self._engine.offers_changed()

    def register_step_type(self, step_type: StepType[Any]) -> None:
        """Makes a type of step available. Raises ConflictError for a name that is taken."""
        self._app.step_types.register(step_type)
        self._engine.offers_changed()

    def register_resource_type(self, resource_type: type[ResourceType[Any, Any]]) -> None:
        """Makes a type of resource available. Raises ConflictError for a name that is taken."""
        self._app.resources.types.register(resource_type)

    async def health_check(self) -> dict[str, Any]:
        """How the gateway and its resources are now, ready for JSON.

        `status` is "healthy", "degraded" or "unhealthy": the worst of `components` (journal, event_loop), degraded when
        a resource is not healthy. `resources` by name have `status` ("idle": no pool is open), `latency_ms`,
        `last_error`, `since`, `type`, `description`, `leases`, `pool`. Live pools are checked now; none is opened.
        """
        await self.start()
        await self._app.resources.check_all(LOCAL)
        return health_report(await self._app.system.health(), await self._app.resources.list(LOCAL))

    async def start(self) -> None:
        """Opens journal and vault and goes on with what was unfinished. Idempotent.

        Raises StateError (JOURNAL_IN_USE), VaultError, UnavailableError; a gateway that was closed does not start
        again.
        """
        if self._closed:
            raise StateError("this gateway is closed; make a new one", reason=Reason.SERVER_DRAINING)
        if self._starting is None:
            self._starting = asyncio.create_task(self._app.open())
        if self._starting.get_loop() is not asyncio.get_running_loop():
            raise StateError(
                "this gateway was started in another event loop; use it within one asyncio.run()",
                reason=Reason.INVALID_REQUEST,
            )
        await asyncio.shield(self._starting)

    async def close(self) -> None:
        """Drains: running steps finish within the grace, the rest goes on at the next start."""
        self._closed = True
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
            self._starting = None
            await self._app.close()
        else:
            await self.secret_manager.close()

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def serve(self, address: str | None = None) -> int:
        """Listens for gRPC, in the background until `close`; the port.

        Raises InvalidRequestError for an address that it may not listen on, before anything is opened, and OSError for
        one that is in use.
        """
        face = self._app.face(address)
        await self.start()
        return await self._app.serve(face)

    def run(self, host: str | None = None, port: int | None = None) -> None:
        """Serves until SIGINT or SIGTERM, then drains. A second signal stops at once.

        Logs go to standard error as the settings say, unless the program has set up its logging.
        """
        address = None if host is None and port is None else listen_address(host, port)
        configure_logging(self.settings.log_level, self.settings.log_format, replace=False)
        uvloop.run(self.serve_until_stopped(address))

    async def serve_until_stopped(
        self, address: str | None = None, started: Callable[[int], None] | None = None
    ) -> None:
        """Serves until a signal or a failed journal. `started` is called with the port once it listens.

        Raises UnavailableError when the journal failed: start again, and recovery goes on from what is durable.
        """
        with stop_signals() as stopped:
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(self.close)
                port = await self.serve(address)
                if started is not None:
                    started(port)
                await first_of(stopped, self._app.fatal)
                if stopped.is_set():
                    grace = "what runs may finish within %g s, and goes on at the next start otherwise"
                    logger.info(f"stopping: {grace}; a second signal stops at once", self.settings.drain_grace_s)
        self._app.check_fatal()


def listen_address(host: str | None, port: int | None) -> str:
    """host:port, with the defaults for what is None and an IPv6 address in brackets."""
    host = "127.0.0.1" if host is None else host
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{bracketed}:{7233 if port is None else port}"
