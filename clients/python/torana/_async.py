"""The asyncio client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc.aio

from torana import _calls, _references
from torana._async_stream import ExecutionFeed, ExecutionStream, Leave
from torana._calls import Call, Pager
from torana._connection import Endpoint, TlsConfig, endpoint, headers
from torana._follow import ExecutionFollower, FeedFollower, StreamCall
from torana._requests import RequestOptions, workflow_request
from torana._result import result_of
from torana._resume import Backoff, Cut, ReconnectPolicy
from torana._status import error_from_call
from torana._types import (
    Execution,
    ExecutionResult,
    KeyRotation,
    Resource,
    ResourceType,
    Secret,
    SecretVersion,
    ServerHealth,
    ServerInfo,
    ServerStats,
    StepType,
    Workflow,
    WorkflowValidation,
)

Answer = TypeVar("Answer")

RESULT_KINDS = ("step_completed", "step_reused")
"""The events a result is made of; the terminal one passes every filter."""


class Client:
    """Talks to a Torana server from asyncio.

    `address` is "host:port" or a URL; https:// and grpcs:// mean TLS. `metadata` goes with every call. `timeout_s`
    bounds each single-answer call; streams have none of their own. `heartbeat_s` (1 to 60) is how often an idle
    stream shows that it lives.

    Every method raises the errors of `torana.errors`. It belongs to the event loop that first uses it.
    """

    database = staticmethod(_references.database)
    http_client = staticmethod(_references.http_client)
    cache = staticmethod(_references.cache)

    def __init__(
        self,
        address: str = "localhost:7233",
        *,
        tls: TlsConfig | None = None,
        metadata: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        timeout_s: float = 30.0,
        heartbeat_s: float = 15.0,
        reconnect: ReconnectPolicy | None = None,
    ) -> None:
        self._endpoint = endpoint(address, tls)
        self._headers = headers(metadata)
        self._timeout_s = timeout_s
        self._heartbeat_s = heartbeat_s
        self._reconnect = reconnect or ReconnectPolicy()
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every call and stream of this client. Closing twice is fine."""
        self._is_closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    # streams

    async def execute_workflow(
        self,
        workflow: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        deadline_s: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> ExecutionResult:
        """Runs a workflow and waits for its end, across broken connections.

        A workflow that fails is a result, not an exception: see `is_success` and `raise_for_status()`. When
        `deadline_s` passes, DeadlineExceededError is raised and the execution goes on.
        """
        stream = self.execute(workflow, parameters, kinds=RESULT_KINDS, deadline_s=deadline_s, **options)
        async with stream:
            return await stream.result()

    def execute(
        self,
        workflow: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        after_sequence: int = 0,
        kinds: Iterable[str] = (),
        steps: Iterable[str] = (),
        deadline_s: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> ExecutionStream:
        """Runs a workflow and streams its events; starts when the stream is first read.

        An idempotency key that is known attaches to its execution. `kinds` (of `Event`) and `steps` choose events.
        """
        follower = ExecutionFollower(
            self._backoff(deadline_s),
            request=workflow_request(workflow, parameters, options),
            after_sequence=after_sequence,
            kinds=kinds,
            steps=steps,
            heartbeat_s=self._heartbeat_s,
        )
        return ExecutionStream(follower, self._open_stream, self._fetch_result, after_sequence)

    def watch(
        self,
        execution_id: str,
        after_sequence: int = 0,
        *,
        kinds: Iterable[str] = (),
        steps: Iterable[str] = (),
        deadline_s: float | None = None,
    ) -> ExecutionStream:
        """Streams the events of an execution from after a sequence. Raises EventsExpiredError when they are gone."""
        follower = ExecutionFollower(
            self._backoff(deadline_s),
            execution_id=execution_id,
            after_sequence=after_sequence,
            kinds=kinds,
            steps=steps,
            heartbeat_s=self._heartbeat_s,
        )
        return ExecutionStream(follower, self._open_stream, self._fetch_result, after_sequence)

    def watch_executions(
        self,
        filter: str = "",
        *,
        cursor: str = "",
        kinds: Iterable[str] = (),
        deadline_s: float | None = None,
    ) -> ExecutionFeed:
        """Streams the events of many executions.

        `cursor` is that of an earlier event, "" for new events only, "0" for all the journal holds. `filter` is as
        in `list_executions`, on workflow and labels only.
        """
        backoff = self._backoff(deadline_s)
        follower = FeedFollower(backoff, filter=filter, cursor=cursor, kinds=kinds, heartbeat_s=self._heartbeat_s)
        return ExecutionFeed(follower, self._open_stream)

    # executions

    async def start_workflow(
        self,
        workflow: str,
        parameters: Mapping[str, Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Execution:
        """Starts an execution and returns as soon as it is durable. Safe to repeat with the same idempotency key."""
        return await self._ask(_calls.start_execution(workflow_request(workflow, parameters, options)))

    async def get_execution(self, execution_id: str) -> Execution:
        """With its result so far and the state of every step. Raises ExecutionNotFoundError."""
        return await self._ask(_calls.get_execution(execution_id))

    def list_executions(self, filter: str = "", *, page_size: int = 0) -> AsyncIterator[Execution]:
        """Newest first, page by page: `workflow = "etl" AND state = FAILED AND labels.team = "a"`."""
        return self._pages(_calls.list_executions(filter, page_size))

    async def cancel_execution(self, execution_id: str, reason: str = "") -> Execution:
        """Returns once the request is durable; watch the execution for its end. Raises ExecutionFinishedError."""
        return await self._ask(_calls.cancel_execution(execution_id, reason))

    async def retry_execution(self, execution_id: str, *, idempotency_key: str | None = None) -> Execution:
        """A new execution of the same request that reuses the steps which completed."""
        return await self._ask(_calls.retry_execution(execution_id, idempotency_key))

    # workflows

    async def get_workflow(self, name: str, revision: str = "") -> Workflow:
        """With its definition; the current revision by default. Raises WorkflowNotFoundError."""
        return await self._ask(_calls.get_workflow(name, revision))

    def list_workflows(self, *, page_size: int = 0) -> AsyncIterator[Workflow]:
        """By name, without definitions."""
        return self._pages(_calls.list_workflows(page_size))

    async def validate_workflow(self, definition: Mapping[str, Any]) -> WorkflowValidation:
        """Every problem of a definition in its JSON form. Registers nothing."""
        return await self._ask(_calls.validate_workflow(definition))

    async def get_step_type(self, name: str) -> StepType:
        """Raises TypeNotFoundError."""
        return await self._ask(_calls.get_step_type(name))

    def list_step_types(self, *, page_size: int = 0) -> AsyncIterator[StepType]:
        """By name."""
        return self._pages(_calls.list_step_types(page_size))

    # resources

    async def get_resource(self, name: str) -> Resource:
        """Raises ResourceNotFoundError."""
        return await self._ask(_calls.get_resource(name))

    def list_resources(self, *, page_size: int = 0) -> AsyncIterator[Resource]:
        """Shared names and live pools, by name."""
        return self._pages(_calls.list_resources(page_size))

    async def check_resource(self, name: str) -> Resource:
        """Checks a live pool now. A failed check is an answer (`last_error`), not an error."""
        return await self._ask(_calls.check_resource(name))

    async def drain_resource(self, name: str) -> Resource:
        """Lets a pool take no new leases and closes it when the last is returned."""
        return await self._ask(_calls.drain_resource(name))

    def list_resource_types(self, *, page_size: int = 0) -> AsyncIterator[ResourceType]:
        """By name."""
        return self._pages(_calls.list_resource_types(page_size))

    # secrets

    async def put_secret(self, name: str, value: Mapping[str, Any]) -> Secret:
        """Stores a secret, or a new version of it. Durable on return."""
        return await self._ask(_calls.put_secret(name, value))

    async def get_secret(self, name: str) -> Secret:
        """Its metadata, never its value. Raises SecretNotFoundError."""
        return await self._ask(_calls.get_secret(name))

    def list_secrets(self, *, page_size: int = 0) -> AsyncIterator[Secret]:
        """By name, metadata only."""
        return self._pages(_calls.list_secrets(page_size))

    def list_secret_versions(self, name: str, *, page_size: int = 0) -> AsyncIterator[SecretVersion]:
        """Latest first, metadata only. Raises SecretNotFoundError."""
        return self._pages(_calls.list_secret_versions(name, page_size))

    async def delete_secret(self, name: str) -> None:
        """Destroys it with all its versions. Raises SecretNotFoundError."""
        await self._ask(_calls.delete_secret(name))

    async def rotate_keys(self) -> KeyRotation:
        """Wraps every tenant key with the primary key again. Calling again goes on where it stopped."""
        return await self._ask(_calls.rotate_keys())

    # the server

    async def get_info(self) -> ServerInfo:
        """What the server is and what it allows."""
        return await self._ask(_calls.get_info())

    async def get_health(self) -> ServerHealth:
        """Health, component by component."""
        return await self._ask(_calls.get_health())

    async def get_stats(self) -> ServerStats:
        """Numbers of the server's process since its start."""
        return await self._ask(_calls.get_stats())

    # carrying out

    async def _ask(self, call: Call[Answer]) -> Answer:
        method = self._connected().unary_unary(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            response = await method(call.request, timeout=self._timeout_s, metadata=self._headers)
        except grpc.aio.AioRpcError as failure:
            raise error_from_call(failure) from failure
        except asyncio.CancelledError:
            # Also what the call ends with when its connection is left; our own task was then not asked to stop.
            if self._is_closed or task is None or task.cancelling() > cancels:
                raise
            raise Cut.RESET.error from None
        return call.read(response)

    async def _pages(self, page_at: Pager[Answer]) -> AsyncIterator[Answer]:
        page = await self._ask(page_at(""))
        while True:
            for item in page.items:
                yield item
            if not page.next_page_token:
                return
            page = await self._ask(page_at(page.next_page_token))

    def _open_stream(self, call: StreamCall) -> tuple[grpc.aio.UnaryStreamCall[Any, Any], Leave]:
        channel = self._connected()
        method = channel.unary_stream(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        return method(call.request, metadata=self._headers), partial(self._leave, channel)

    async def _leave(self, channel: grpc.aio.Channel) -> None:
        """Streams of this connection go on over a new one; other calls on it end as UnavailableError."""
        if channel is self._channel:
            self._channel = None
            await channel.close()

    async def _fetch_result(self, execution_id: str) -> ExecutionResult:
        return result_of(await self.get_execution(execution_id))

    def _backoff(self, deadline_s: float | None) -> Backoff:
        return Backoff(self._reconnect, random.uniform, deadline_s=deadline_s)

    def _connected(self) -> grpc.aio.Channel:
        if self._is_closed:
            raise RuntimeError("this client is closed")
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._channel, self._loop = _open_channel(self._endpoint), loop
        if self._loop is not loop:
            raise RuntimeError("this client belongs to another event loop; make one client for each")
        return self._channel


def _open_channel(to: Endpoint) -> grpc.aio.Channel:
    if to.tls is None:
        return grpc.aio.insecure_channel(to.target, options=to.options())
    return grpc.aio.secure_channel(to.target, to.tls.credentials(), options=to.options())
