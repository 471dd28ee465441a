"""`function`: runs a Python function that the operator registered."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping

from pydantic import Field

from torana_server.core.errors import Reason, StepError, Violation
from torana_server.steps.blocking import BlockingStepContext
from torana_server.steps.context import StepContext
from torana_server.steps.functions import CONTEXT_PARAMETER, Function, FunctionRegistry, requirement
from torana_server.steps.registry import LITERAL, StepConfig, StepType
from torana_server.steps.threads import StepThreads


class FunctionConfig(StepConfig):
    function: str = Field(description="Name the function is registered by", json_schema_extra=LITERAL)
    version: str = Field(default="1", description="Version it is registered with", json_schema_extra=LITERAL)


class FunctionStep(StepType[FunctionConfig]):
    """Parameters by name are the inputs, those with a default optional; `**kwargs` takes all the rest and a parameter
    `ctx` the step context. An `async def` is awaited; a plain `def` runs in a thread and gets a BlockingStepContext.

    A plain `def` that is cancelled may look at `ctx.cancelled`; after `cancel_grace_s` it is abandoned.
    """

    name = "function"
    description = "Runs a Python function that the operator registered"
    Config = FunctionConfig

    def __init__(self, functions: FunctionRegistry, threads: StepThreads, *, cancel_grace_s: float = 10.0) -> None:
        self._functions = functions
        self._threads = threads
        self._cancel_grace_s = cancel_grace_s

    def check(self, config: FunctionConfig) -> Iterable[Violation]:
        if self._functions.get(config.function, config.version) is None:
            yield Violation("function", self._unknown(config))

    def requires(self, config: Mapping[str, object]) -> frozenset[str]:
        name, version = config.get("function"), config.get("version", "1")
        return frozenset({self.name, requirement(str(name), str(version))})

    def capabilities(self) -> frozenset[str]:
        return self._functions.requirements() | {self.name}

    async def run(self, ctx: StepContext, config: FunctionConfig, inputs: dict[str, object]) -> object:
        function = self._functions.get(config.function, config.version)
        if function is None:
            raise StepError(self._unknown(config), reason=Reason.STEP_TYPE_NOT_FOUND)
        arguments = function.arguments(inputs)
        if not function.is_async:
            return await self._in_thread(function, ctx, arguments)
        if function.takes_context:
            arguments[CONTEXT_PARAMETER] = ctx
        return await function.call(**arguments)

    async def _in_thread(self, function: Function, ctx: StepContext, arguments: dict[str, object]) -> object:
        if function.takes_context:
            arguments[CONTEXT_PARAMETER] = BlockingStepContext(ctx)
        call = functools.partial(function.call, **arguments)
        result = await self._threads.run(call, grace_s=self._cancel_grace_s)
        # A plain function may still return a coroutine, as many decorated ones do.
        return await result if inspect.isawaitable(result) else result

    def _unknown(self, config: FunctionConfig) -> str:
        return (
            f"function {config.function!r} version {config.version!r} is not registered on this server; "
            f"registered: {self._functions.describe()}"
        )
