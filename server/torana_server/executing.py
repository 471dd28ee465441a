"""Running and following executions from the program that embeds the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from torana_server.access import LOCAL
from torana_server.core.errors import InvalidRequestError, Reason, UnavailableError, WorkflowNotFoundError
from torana_server.core.limits import PAGE_SIZE_MAX
from torana_server.execution import (
    ALL_EVENTS,
    TERMINAL_KINDS,
    Batch,
    Engine,
    EventCodec,
    EventFilter,
    ExecutionView,
    parse,
)
from torana_server.native import Event, Execution, native_event, native_execution, native_result
from torana_server.request import WorkflowRequest, WorkflowResponse, engine_request
from torana_server.workflow import WorkflowRegistry


class Executing(ABC):
    """The part of a Gateway that runs workflows. Each call starts the gateway if need be."""

    _engine: Engine
    _codec: EventCodec
    _registered: WorkflowRegistry
    _share_inline: bool

    @abstractmethod
    async def start(self) -> None: ...

    async def execute_workflow(self, name: str, request: WorkflowRequest | None = None) -> WorkflowResponse:
        """Runs a workflow to its end. A workflow that fails is a response, not an exception.

        Raises WorkflowNotFoundError, InvalidRequestError, ResourceNotBoundError, ResourceNotFoundError,
        ConflictError, ExhaustedError, UnavailableError.
        """
        return await self.wait(await self.start_workflow(name, request))

    async def execute_stream(self, name: str, request: WorkflowRequest | None = None) -> AsyncGenerator[Event, None]:
        """Runs a workflow and yields its events, from the first to the last. Leaving the loop does not stop the
        execution. Raises as `execute_workflow` does."""
        execution_id = await self.start_workflow(name, request)
        async with aclosing(self.watch(execution_id)) as events:
            async for event in events:
                yield event

    async def start_workflow(self, name: str, request: WorkflowRequest | None = None) -> str:
        """Starts a workflow and returns the execution's id as soon as it is durable, or that of the execution which
        the request's idempotency key belongs to. Raises as `execute_workflow` does."""
        asked = engine_request(name, request)
        await self.start()
        started = await self._engine.start(LOCAL, asked, share_inline=self._share_inline)
        return started.summary.execution

    async def watch(self, execution_id: str, after_sequence: int = 0) -> AsyncGenerator[Event, None]:
        """The events after a sequence, old and new, until the execution has ended. Raises ExecutionNotFoundError,
        EventsExpiredError, StateError (SEQUENCE_OUT_OF_RANGE) for a sequence that is not reached yet, and
        UnavailableError (SERVER_DRAINING) when the gateway is closed before."""
        async with aclosing(self._batches(execution_id, after_sequence, ALL_EVENTS)) as batches:
            async for batch in batches:
                for stored in batch.events:
                    yield native_event(execution_id, self._codec.decode(stored.data))

    async def wait(self, execution_id: str) -> WorkflowResponse:
        """The outcome of an execution, once it has ended. Raises ExecutionNotFoundError, EventsExpiredError, and
        UnavailableError (SERVER_DRAINING) when the gateway is closed before; the execution goes on at the next
        start."""
        async for _ in self._batches(execution_id, 0, EventFilter(TERMINAL_KINDS)):
            pass
        view = await self._engine.get(LOCAL, execution_id)
        status: Any = view.summary.state.lower()
        error = view.state.error if view.state is not None else None
        return WorkflowResponse(
            execution_id=execution_id, status=status, result=native_result(view.state, self._steps(view)), error=error
        )

    async def get_execution(self, execution_id: str) -> Execution:
        """An execution as it is now, with the outputs so far. Raises ExecutionNotFoundError."""
        await self.start()
        view = await self._engine.get(LOCAL, execution_id)
        return native_execution(view, self._steps(view))

    async def list_executions(self, filter: str = "", *, limit: int = 50, before: str | None = None) -> list[Execution]:
        """Newest first, at most `limit`, those before the execution with the id `before`; without results. `filter` as
        over gRPC, such as `state = FAILED AND workflow = "etl"`. Raises InvalidRequestError (INVALID_FILTER)."""
        if not 1 <= limit <= PAGE_SIZE_MAX:
            raise InvalidRequestError(f"limit is {limit}; it is 1 to {PAGE_SIZE_MAX}")
        where = parse(filter)
        await self.start()
        views = await self._engine.list(LOCAL, where, limit=limit, before=before)
        return [native_execution(view, ()) for view in views]

    async def cancel(self, execution_id: str, reason: str = "") -> None:
        """Asks for a cancel, durably; running steps are stopped, and `wait` tells when all have. Raises
        ExecutionNotFoundError, StateError (EXECUTION_FINISHED)."""
        await self.start()
        await self._engine.cancel(LOCAL, execution_id, reason)

    async def retry_execution(self, execution_id: str, *, idempotency_key: str = "") -> str:
        """Starts a new execution of the same request and revision, which takes over the steps that completed, and
        returns its id. Raises ExecutionNotFoundError, StateError unless it failed or was cancelled."""
        await self.start()
        started = await self._engine.retry(LOCAL, execution_id, idempotency_key)
        return started.summary.execution

    async def _batches(self, execution_id: str, after_sequence: int, where: EventFilter) -> AsyncGenerator[Batch, None]:
        await self.start()
        watch = await self._engine.watch(LOCAL, execution_id, after_sequence, where)
        try:
            while not watch.ended:
                batch = await watch.next(None)
                if batch is not None:
                    yield batch
                elif watch.draining:
                    raise UnavailableError(
                        f"the gateway was closed before execution {execution_id} ended; it goes on at the next start",
                        reason=Reason.SERVER_DRAINING,
                        metadata={"execution": execution_id},
                    )
        finally:
            watch.close()

    def _steps(self, view: ExecutionView) -> Sequence[str]:
        try:
            workflow = self._registered.get(view.summary.workflow, view.summary.revision)
        except WorkflowNotFoundError:
            return ()  # not registered any more: the order in which they were done must do
        return [step.name for step in workflow.definition.steps]
