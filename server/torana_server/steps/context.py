"""What a running step knows of its execution and may ask of the server."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from torana_server.core.clock import to_datetime
from torana_server.core.errors import Reason, StepError
from torana_server.core.values import decode
from torana_server.steps.log import StepLogger, one_line
from torana_server.steps.payloads import to_payload
from torana_server.steps.ports import ResourceLeases, StepCall, StepEvents, StepResources

CURRENT_STEP: ContextVar[StepContext] = ContextVar("torana_step")


class SupportsWrite(Protocol):
    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...


class RequestContext(Mapping[str, object]):
    """The context values of the request, read-only: `context["user"]`, `context.get("user", default)`."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> object:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"RequestContext({sorted(self._values)})"

    def get_variable(self, key: str, default: object = None) -> object:
        return self._values.get(key, default)


class WorkflowContext:
    """An object to keep things on between executions: one per tenant, revision and process. A cache, not a promise."""


@dataclass(frozen=True, slots=True)
class StepServices:
    """What every attempt on this server shares. `workflow_context` takes a tenant and a revision."""

    leases: ResourceLeases
    workflow_context: Callable[[str, str], WorkflowContext]
    log_level: int


class StepContext:
    """`ctx`: one attempt of one step.

    Once the attempt is over, or was abandoned, everything it asks for raises StepError.
    """

    __slots__ = (
        "_call",
        "_closed",
        "_context",
        "_events",
        "_logger",
        "_loop",
        "_resources",
        "_restored",
        "_services",
        "_task",
        "_thread",
    )

    def __init__(self, call: StepCall, events: StepEvents, services: StepServices) -> None:
        self._call = call
        self._events = events
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._thread = threading.get_ident()
        self._closed = False
        self._context: RequestContext | None = None
        self._logger: StepLogger | None = None
        self._resources: StepResources | None = None
        self._restored: tuple[object] | None = None

    @property
    def inputs(self) -> dict[str, object]:
        """Every input, those whose names are not Python names included."""
        return self._call.inputs

    @property
    def execution_id(self) -> str:
        return self._call.execution

    @property
    def workflow_name(self) -> str:
        return self._call.workflow

    @property
    def revision(self) -> str:
        return self._call.revision

    @property
    def step_name(self) -> str:
        return self._call.step.name

    @property
    def attempt(self) -> int:
        """1 for the first start of this step in this execution; higher after a failure or an interruption."""
        return self._call.attempt

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt of this step in this execution: pass it to outside APIs."""
        return self._call.idempotency_key

    @property
    def deadline(self) -> datetime | None:
        """When this attempt is cancelled, in UTC. None: never."""
        return None if self._call.deadline is None else to_datetime(self._call.deadline)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was asked to stop. A plain `def` step has no other way to know."""
        return self._closed or (self._task is not None and self._task.cancelling() > 0)

    @property
    def restored(self) -> object:
        """The last checkpoint of an earlier attempt, or None."""
        if self._restored is None:
            saved = self._call.restored
            self._restored = (None if saved is None else decode(saved),)
        return self._restored[0]

    @property
    def context(self) -> RequestContext:
        if self._context is None:
            self._context = RequestContext(self._call.context)
        return self._context

    @property
    def workflow_context(self) -> WorkflowContext:
        return self._services.workflow_context(self._call.principal.tenant, self._call.revision)

    @property
    def logger(self) -> StepLogger:
        if self._logger is None:
            level = logging.DEBUG if self._call.debug else self._services.log_level
            self._logger = StepLogger(self._log, level, self._call.log_fields())
        return self._logger

    async def get_resource(self, name: str) -> Any:
        """The live object bound to `name`. Raises StepError (RESOURCE_NOT_DECLARED), ResourceError."""
        self._refuse_when_over()
        declared = self._call.step.required_resources
        if declared and name not in declared:
            raise StepError(
                f"step {self.step_name!r} may not use resource {name!r}: its required_resources are "
                f"{', '.join(declared)}; add the name there",
                reason=Reason.RESOURCE_NOT_DECLARED,
                metadata={"resource": name, "step": self.step_name},
            )
        return await self._open_resources().get(name)

    async def progress(self, fraction: float, message: str = "", **data: object) -> None:
        """How far the step is, 0 to 1. Returns once buffered; waits while the buffer is full."""
        self._refuse_when_over()
        if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise ValueError(f"progress needs a fraction between 0 and 1, not {fraction!r}")
        payload = to_payload(data, "the data of progress") if data else None
        await self._events.progress(float(fraction), one_line(str(message)), payload)

    async def emit(self, topic: str, value: object) -> None:
        """Hands out a value while the step runs. Waits as `progress` does."""
        self._refuse_when_over()
        if not isinstance(topic, str) or not topic:
            raise ValueError(f"emit needs a topic, a text that is not empty, not {topic!r}")
        await self._events.emit(topic, to_payload(value, f"the value emitted as {topic!r}"))

    async def checkpoint(self, value: object) -> None:
        """Saves the step's own state; returns when durable. The next attempt finds it in `restored`."""
        self._refuse_when_over()
        await self._events.checkpoint(to_payload(value, "the checkpoint"))

    def print(
        self,
        *values: object,
        sep: str | None = None,
        end: str | None = None,
        file: SupportsWrite | None = None,
        flush: bool = False,
    ) -> None:
        """`print` of a source step: a log event instead of the server's standard output. Other files are written."""
        if file is None or file is sys.stdout or file is sys.stderr:
            self.logger.info("%s", (" " if sep is None else sep).join(map(str, values)) + (end or "").rstrip("\n"))
        else:
            print(*values, sep=sep, end=end, file=file, flush=flush)

    def close(self) -> StepResources | None:
        """Refuses everything from now on. Returns what is to be released, if anything was leased and is not yet."""
        self._closed = True
        resources, self._resources = self._resources, None
        return resources

    def _open_resources(self) -> StepResources:
        if self._resources is None:
            call = self._call
            declared = call.step.required_resources
            self._resources = self._services.leases.open(
                call.principal,
                call.bindings,
                execution=call.execution,
                step=call.step.name,
                attempt=call.attempt,
                allowed=frozenset(declared) if declared else None,
            )
        return self._resources

    def _refuse_when_over(self) -> None:
        if self._closed:
            raise StepError(
                f"attempt {self.attempt} of step {self.step_name!r} is over; what it does now has no effect",
                reason=Reason.STEP_TIMEOUT,
                metadata={"step": self.step_name, "attempt": str(self.attempt)},
            )

    def _log(self, level: int, text: str, extra: Mapping[str, object] | None) -> None:
        self._refuse_when_over()
        if threading.get_ident() == self._thread:
            self._events.log(level, text, extra)
        else:
            self._loop.call_soon_threadsafe(self._log_on_loop, level, text, extra)

    def _log_on_loop(self, level: int, text: str, extra: Mapping[str, object] | None) -> None:
        if not self._closed:  # the attempt may have ended while the line was on its way
            self._events.log(level, text, extra)


def get_current_context() -> RequestContext:
    """The request's context values, at any depth of call, in tasks the step starts and in `asyncio.to_thread`.

    Not in threads of other pools: they do not carry context variables. Raises StepError outside a step.
    """
    ctx = CURRENT_STEP.get(None)
    if ctx is None:
        raise StepError(
            "get_current_context() was called where no step runs: it works in a step, in the tasks it starts and in "
            "asyncio.to_thread; pass the context to other threads yourself"
        )
    return ctx.context
