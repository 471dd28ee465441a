"""Runs attempts in the server's own process and event loop."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torana_server.core import logs
from torana_server.core.errors import StepError
from torana_server.steps.context import CURRENT_STEP, StepContext, StepServices, WorkflowContext
from torana_server.steps.payloads import to_payload
from torana_server.steps.ports import ResourceLeases, StepCall, StepEvents, StepResources, StepResult
from torana_server.steps.registry import Routed, StepConfig, StepType, StepTypes
from torana_server.workflow import Step

logger = logs.logger("steps")

CONFIGS_MAX = 4_096
"""Validated configs kept: one per step of a revision."""
WORKFLOW_CONTEXTS_MAX = 1_024
"""`workflow_context` objects kept, the least recently used one forgotten first."""

_AttemptKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A step's type and, when no template can change it, its config. `step` guards against a reused revision."""

    step: Step
    type: StepType[Any]
    config: StepConfig | None


class InProcessRunner:
    """`StepRunner` for steps the server trusts with its own rights.

    An `async` step runs in the task that awaits `run`, with no task of its own: see the port for what that asks of
    the caller. `log_level` is the least level (a name of `logging`) at which a step's log lines become events.
    """

    def __init__(
        self,
        types: StepTypes,
        leases: ResourceLeases,
        *,
        cancel_grace_s: float = 10.0,
        log_level: str = "INFO",
    ) -> None:
        self._types = types
        self._cancel_grace_s = cancel_grace_s
        workflow_contexts = lru_cache(WORKFLOW_CONTEXTS_MAX)(lambda tenant, revision: WorkflowContext())
        self._services = StepServices(leases, workflow_contexts, logging.getLevelNamesMapping()[log_level])
        self._prepared: dict[tuple[str, str], _Prepared] = {}
        self._running: dict[_AttemptKey, StepContext] = {}
        self._releasing: set[asyncio.Task[None]] = set()

    @property
    def cancel_grace_s(self) -> float:
        return self._cancel_grace_s

    async def run(self, call: StepCall, events: StepEvents) -> StepResult:
        prepared = self._prepare(call)
        ctx = StepContext(call, events, self._services)
        key = _key(call)
        self._running[key] = ctx
        token = CURRENT_STEP.set(ctx)
        try:
            config = prepared.type.validated(call.config) if prepared.config is None else prepared.config
            output = await prepared.type.run(ctx, config, call.inputs)
            return _result(output, call.step.name)
        except asyncio.CancelledError as error:
            if ctx.cancelled:
                raise
            raise StepError("the step awaited something that was cancelled, though the step itself was not") from error
        except SystemExit as error:
            # Let through, it would end the server.
            raise StepError("the step asked the process to exit; raise an error to fail the step") from error
        finally:
            CURRENT_STEP.reset(token)
            if self._running.get(key) is ctx:
                del self._running[key]
            resources = ctx.close()
            if resources is not None:
                await asyncio.shield(self._release(resources))

    def abandon(self, call: StepCall) -> None:
        ctx = self._running.pop(_key(call), None)
        resources = ctx.close() if ctx is not None else None
        if resources is not None:
            self._release(resources)

    async def close(self) -> None:
        """Waits for the release of what abandoned attempts had leased, and for nothing else."""
        await asyncio.gather(*self._releasing)

    def _prepare(self, call: StepCall) -> _Prepared:
        key = call.revision, call.step.name
        known = self._prepared.get(key)
        if known is not None and known.step is call.step:
            return known
        step_type = self._types.find(call.step.type)
        config = None if step_type.has_templates(call.step.config) else step_type.validated(call.config)
        if len(self._prepared) >= CONFIGS_MAX:
            del self._prepared[next(iter(self._prepared))]
        self._prepared[key] = prepared = _Prepared(call.step, step_type, config)
        return prepared

    def _release(self, resources: StepResources) -> asyncio.Task[None]:
        """In a task, so that a cancelled attempt returns its leases all the same."""
        task = asyncio.get_running_loop().create_task(resources.release(), name="release of a step's resources")
        self._releasing.add(task)
        task.add_done_callback(self._released)
        return task

    def _released(self, task: asyncio.Task[None]) -> None:
        self._releasing.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("the resources of a step were not returned", exc_info=error)


def _key(call: StepCall) -> _AttemptKey:
    return call.execution, call.step.name, call.attempt


def _result(output: object, step: str) -> StepResult:
    what = f"the output of step {step!r}"
    if isinstance(output, Routed):
        return StepResult(to_payload(output.value, what), output.route)
    return StepResult(to_payload(output, what))
