"""ExecutionService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from torana.v1 import execution_pb2
from torana.v1 import execution_service_pb2 as pb
from torana_server.core.clock import Clock
from torana_server.core.errors import EventsExpiredError, WorkflowNotFoundError
from torana_server.core.limits import IDEMPOTENCY_KEY_CHARS_MAX
from torana_server.execution import Engine, EventFilter, ExecutionView, Watch, WatchAll, parse
from torana_server.rpc import frames
from torana_server.rpc.calls import current, principal
from torana_server.rpc.checks import Checks
from torana_server.rpc.mapping import (
    STATES,
    execution_to_message,
    filter_of,
    request_of,
    summary_to_message,
)
from torana_server.rpc.paging import Query, page_of
from torana_server.rpc.settings import RpcSettings
from torana_server.rpc.status import ATTACHMENT_BYTES_MAX
from torana_server.rpc.streams import OpenStreams, Pace, Send, follow, follow_all, pace_of
from torana_server.workflow import WorkflowRegistry

CANCEL_REASON_CHARS_MAX: Final = 1_000
WATCHED_FIELDS: Final = frozenset({"workflow", "labels"})
FROM_THE_START: Final = "0"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a caller wants of the stream of one execution."""

    after_sequence: int
    where: EventFilter
    pace: Pace


class ExecutionServicer:
    def __init__(
        self, engine: Engine, workflows: WorkflowRegistry, streams: OpenStreams, clock: Clock, settings: RpcSettings
    ) -> None:
        self._engine = engine
        self._workflows = workflows
        self._streams = streams
        self._clock = clock
        self._settings = settings

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> None:  # noqa: N802
        checks = Checks()
        wish = self._wish(request, checks)
        checks.required("request", given=request.HasField("request"))
        wanted = request_of(request.request, checks)
        checks.done()

        with self._streams.place():
            started = await self._engine.start(principal(), wanted)
            after_sequence = wish.after_sequence if started.attached else 0
            await self._stream(started.summary.execution, after_sequence, wish, context.write, started.attached)

    async def StartExecution(  # noqa: N802
        self, request: pb.StartExecutionRequest, context: Any
    ) -> pb.StartExecutionResponse:
        checks = Checks()
        checks.required("request", given=request.HasField("request"))
        wanted = request_of(request.request, checks)
        checks.done()
        started = await self._engine.start(principal(), wanted)
        return pb.StartExecutionResponse(execution=summary_to_message(started.summary), attached=started.attached)

    async def WatchExecution(self, request: pb.WatchExecutionRequest, context: Any) -> None:  # noqa: N802
        checks = Checks()
        checks.execution("execution", request.execution)
        wish = self._wish(request, checks)
        checks.done()

        with self._streams.place():
            await self._stream(request.execution, wish.after_sequence, wish, context.write, attached=False)

    async def WatchExecutions(  # noqa: N802
        self, request: pb.WatchExecutionsRequest, context: Any
    ) -> AsyncGenerator[bytes, None]:
        checks = Checks()
        kinds = checks.kinds("kinds", request.kinds)
        pace = pace_of(_interval(request), self._settings, checks)
        checks.done()
        where = parse(request.filter, fields=WATCHED_FIELDS)
        query = Query(principal().tenant, "WatchExecutions")
        position = _position(request.cursor, query)
        with self._streams.place():
            watch: WatchAll = await self._engine.watch_all(principal(), position, where, kinds)
            with self._streams.holding(watch):
                async with aclosing(follow_all(watch, pace, self._clock, query)) as stream:
                    async for frame in stream:
                        yield frame

    async def GetExecution(self, request: pb.GetExecutionRequest, context: Any) -> pb.GetExecutionResponse:  # noqa: N802
        checks = Checks()
        checks.execution("execution", request.execution)
        checks.done()
        view = await self._engine.get(principal(), request.execution)
        return pb.GetExecutionResponse(execution=execution_to_message(view, self._steps(view)))

    async def ListExecutions(self, request: pb.ListExecutionsRequest, context: Any) -> pb.ListExecutionsResponse:  # noqa: N802
        checks = Checks()
        size = checks.page_size(request.page_size)
        checks.done()
        where = parse(request.filter)
        query = Query(principal().tenant, "ListExecutions", (request.filter,))
        before = query.position(request.page_token) if request.page_token else None
        page = page_of(
            await self._engine.list(principal(), where, limit=size + 1, before=before),
            query=query,
            size=size,
            bytes_max=self._settings.page_bytes_max,
            item=lambda view: summary_to_message(view.summary, view.blocked_reason),
            position=lambda view: view.summary.execution,
        )
        return pb.ListExecutionsResponse(executions=page.items, next_page_token=page.next_token)

    async def CancelExecution(self, request: pb.CancelExecutionRequest, context: Any) -> pb.CancelExecutionResponse:  # noqa: N802
        checks = Checks()
        checks.execution("execution", request.execution)
        checks.text("reason", request.reason, CANCEL_REASON_CHARS_MAX)
        checks.done()
        summary = await self._engine.cancel(principal(), request.execution, request.reason)
        return pb.CancelExecutionResponse(execution=summary_to_message(summary))

    async def RetryExecution(self, request: pb.RetryExecutionRequest, context: Any) -> pb.RetryExecutionResponse:  # noqa: N802
        checks = Checks()
        checks.execution("execution", request.execution)
        checks.text("idempotency_key", request.idempotency_key, IDEMPOTENCY_KEY_CHARS_MAX)
        checks.done()
        try:
            started = await self._engine.retry(principal(), request.execution, request.idempotency_key)
        except EventsExpiredError:
            await self._attach(request.execution)
            raise
        return pb.RetryExecutionResponse(execution=summary_to_message(started.summary))

    def _wish(self, request: pb.ExecuteRequest | pb.WatchExecutionRequest, checks: Checks) -> _Wish:
        checks.sequence("after_sequence", request.after_sequence)
        where = filter_of(request.filter, checks)
        return _Wish(request.after_sequence, where, pace_of(_interval(request), self._settings, checks))

    async def _stream(self, execution: str, after_sequence: int, wish: _Wish, send: Send, attached: bool) -> None:
        """Writes the stream itself: each generator on the way would cost every frame."""
        watch = await self._watch(execution, after_sequence, wish.where)
        with closing(watch), self._streams.holding(watch):
            view = await self._engine.get(principal(), execution) if watch.ended else None
            opened = frames.opened(
                execution,
                oldest_sequence=1 if view is None else view.summary.oldest_sequence,
                latest_sequence=watch.latest_sequence,
                heartbeat_interval=wish.pace.interval,
                attached=attached,
            )
            await send(opened)
            if view is None:
                await follow(watch, wish.pace, self._clock, send)
            else:
                # The caller has had the last event; what is missing is the end.
                await send(frames.end(frames.FINISHED, watch.position, state=STATES[view.summary.state]))

    async def _watch(self, execution: str, after_sequence: int, where: EventFilter) -> Watch:
        try:
            return await self._engine.watch(principal(), execution, after_sequence, where)
        except EventsExpiredError:
            await self._attach(execution)
            raise

    async def _attach(self, execution: str) -> None:
        """What is left of an execution whose events have expired goes with the error."""
        view = await self._engine.get(principal(), execution)
        message: execution_pb2.Execution = execution_to_message(view)
        if message.ByteSize() > ATTACHMENT_BYTES_MAX:
            message = summary_to_message(view.summary)
        if message.ByteSize() > ATTACHMENT_BYTES_MAX:
            message.labels.clear()
        current().attached.append(message)

    def _steps(self, view: ExecutionView) -> list[str]:
        """All steps in their order, if this server has the definition registered."""
        try:
            workflow = self._workflows.get(view.summary.workflow, view.summary.revision)
        except WorkflowNotFoundError:
            return []
        return [step.name for step in workflow.definition.steps]


def _interval(request: pb.ExecuteRequest | pb.WatchExecutionRequest | pb.WatchExecutionsRequest) -> Duration | None:
    return request.heartbeat_interval if request.HasField("heartbeat_interval") else None


def _position(cursor: str, query: Query) -> int | None:
    """None for new events only. Raises InvalidRequestError (INVALID_PAGE_TOKEN)."""
    if not cursor:
        return None
    return 0 if cursor == FROM_THE_START else int(query.position(cursor, "cursor"))
