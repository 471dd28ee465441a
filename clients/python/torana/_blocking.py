"""The blocking client."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from torana import _calls, _references
from torana._blocking_stream import BlockingExecutionFeed, BlockingExecutionStream, Leave
from torana._calls import Call, Pager
from torana._connection import Endpoint, TlsConfig, endpoint, headers
from torana._follow import ExecutionFollower, FeedFollower, StreamCall
from torana._requests import RequestOptions, workflow_request
from torana._result import result_of
from torana._resume import Backoff, ReconnectPolicy
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


class BlockingClient:
    """Talks to a Torana server without asyncio; the same methods as `Client`.

    `address` is "host:port" or a URL; https:// and grpcs:// mean TLS. `metadata` goes with every call. `timeout_s`
    bounds each single-answer call; streams have none of their own. `heartbeat_s` (1 to 60) is how often an idle
    stream shows that it lives.

    Every method raises the errors of `torana.errors`. Threads may share it; each stream is read by one.
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
        self._channel = _open_channel(self._endpoint)
        self._left: grpc.Channel | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every call and stream of this client. Closing twice is fine."""
        with self._lock:
            self._is_closed = True
            for channel in (self._channel, self._left):
                if channel is not None:
                    channel.close()

    # streams

    def execute_workflow(
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
        with stream:
            return stream.result()

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
    ) -> BlockingExecutionStream:
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
        return BlockingExecutionStream(follower, self._open_stream, self._fetch_result, after_sequence)

    def watch(
        self,
        execution_id: str,
        after_sequence: int = 0,
        *,
        kinds: Iterable[str] = (),
        steps: Iterable[str] = (),
        deadline_s: float | None = None,
    ) -> BlockingExecutionStream:
        """Streams the events of an execution from after a sequence. Raises EventsExpiredError when they are gone."""
        follower = ExecutionFollower(
            self._backoff(deadline_s),
            execution_id=execution_id,
            after_sequence=after_sequence,
            kinds=kinds,
            steps=steps,
            heartbeat_s=self._heartbeat_s,
        )
        return BlockingExecutionStream(follower, self._open_stream, self._fetch_result, after_sequence)

    def watch_executions(
        self,
        filter: str = "",
        *,
        cursor: str = "",
        kinds: Iterable[str] = (),
        deadline_s: float | None = None,
    ) -> BlockingExecutionFeed:
        """Streams the events of many executions.

        `cursor` is that of an earlier event, "" for new events only, "0" for all the journal holds. `filter` is as
        in `list_executions`, on workflow and labels only.
        """
        backoff = self._backoff(deadline_s)
        follower = FeedFollower(backoff, filter=filter, cursor=cursor, kinds=kinds, heartbeat_s=self._heartbeat_s)
        return BlockingExecutionFeed(follower, self._open_stream)

    # executions

    def start_workflow(
        self,
        workflow: str,
        parameters: Mapping[str, Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Execution:
        """Starts an execution and returns as soon as it is durable. Safe to repeat with the same idempotency key."""
        return self._ask(_calls.start_execution(workflow_request(workflow, parameters, options)))

    def get_execution(self, execution_id: str) -> Execution:
        """With its result so far and the state of every step. Raises ExecutionNotFoundError."""
        return self._ask(_calls.get_execution(execution_id))

    def list_executions(self, filter: str = "", *, page_size: int = 0) -> Iterator[Execution]:
        """Newest first, page by page: `workflow = "etl" AND state = FAILED AND labels.team = "a"`."""
        return self._pages(_calls.list_executions(filter, page_size))

    def cancel_execution(self, execution_id: str, reason: str = "") -> Execution:
        """Returns once the request is durable; watch the execution for its end. Raises ExecutionFinishedError."""
        return self._ask(_calls.cancel_execution(execution_id, reason))

    def retry_execution(self, execution_id: str, *, idempotency_key: str | None = None) -> Execution:
        """A new execution of the same request that reuses the steps which completed."""
        return self._ask(_calls.retry_execution(execution_id, idempotency_key))

    # workflows

    def get_workflow(self, name: str, revision: str = "") -> Workflow:
        """With its definition; the current revision by default. Raises WorkflowNotFoundError."""
        return self._ask(_calls.get_workflow(name, revision))

    def list_workflows(self, *, page_size: int = 0) -> Iterator[Workflow]:
        """By name, without definitions."""
        return self._pages(_calls.list_workflows(page_size))

    def validate_workflow(self, definition: Mapping[str, Any]) -> WorkflowValidation:
        """Every problem of a definition in its JSON form. Registers nothing."""
        return self._ask(_calls.validate_workflow(definition))

    def get_step_type(self, name: str) -> StepType:
        """Raises TypeNotFoundError."""
        return self._ask(_calls.get_step_type(name))

    def list_step_types(self, *, page_size: int = 0) -> Iterator[StepType]:
        """By name."""
        return self._pages(_calls.list_step_types(page_size))

    # resources

    def get_resource(self, name: str) -> Resource:
        """Raises ResourceNotFoundError."""
        return self._ask(_calls.get_resource(name))

    def list_resources(self, *, page_size: int = 0) -> Iterator[Resource]:
        """Shared names and live pools, by name."""
        return self._pages(_calls.list_resources(page_size))

    def check_resource(self, name: str) -> Resource:
        """Checks a live pool now. A failed check is an answer (`last_error`), not an error."""
        return self._ask(_calls.check_resource(name))

    def drain_resource(self, name: str) -> Resource:
        """Lets a pool take no new leases and closes it when the last is returned."""
        return self._ask(_calls.drain_resource(name))

    def list_resource_types(self, *, page_size: int = 0) -> Iterator[ResourceType]:
        """By name."""
        return self._pages(_calls.list_resource_types(page_size))

    # secrets

    def put_secret(self, name: str, value: Mapping[str, Any]) -> Secret:
        """Stores a secret, or a new version of it. Durable on return."""
        return self._ask(_calls.put_secret(name, value))

    def get_secret(self, name: str) -> Secret:
        """Its metadata, never its value. Raises SecretNotFoundError."""
        return self._ask(_calls.get_secret(name))

    def list_secrets(self, *, page_size: int = 0) -> Iterator[Secret]:
        """By name, metadata only."""
        return self._pages(_calls.list_secrets(page_size))

    def list_secret_versions(self, name: str, *, page_size: int = 0) -> Iterator[SecretVersion]:
        """Latest first, metadata only. Raises SecretNotFoundError."""
        return self._pages(_calls.list_secret_versions(name, page_size))

    def delete_secret(self, name: str) -> None:
        """Destroys it with all its versions. Raises SecretNotFoundError."""
        self._ask(_calls.delete_secret(name))

    def rotate_keys(self) -> KeyRotation:
        """Wraps every tenant key with the primary key again. Calling again goes on where it stopped."""
        return self._ask(_calls.rotate_keys())

    # the server

    def get_info(self) -> ServerInfo:
        """What the server is and what it allows."""
        return self._ask(_calls.get_info())

    def get_health(self) -> ServerHealth:
        """Health, component by component."""
        return self._ask(_calls.get_health())

    def get_stats(self) -> ServerStats:
        """Numbers of the server's process since its start."""
        return self._ask(_calls.get_stats())

    # carrying out

    def _ask(self, call: Call[Answer]) -> Answer:
        method: Any = self._channel.unary_unary(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        try:
            response = method(call.request, timeout=self._timeout_s, metadata=self._headers)
        except grpc.RpcError as failure:
            raise error_from_call(failure) from failure
        return call.read(response)

    def _pages(self, page_at: Pager[Answer]) -> Iterator[Answer]:
        page = self._ask(page_at(""))
        while True:
            yield from page.items
            if not page.next_page_token:
                return
            page = self._ask(page_at(page.next_page_token))

    def _open_stream(self, call: StreamCall) -> tuple[Any, Leave]:
        channel = self._channel
        method: Any = channel.unary_stream(
            call.method,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        return method(call.request, metadata=self._headers), partial(self._leave, channel)

    def _leave(self, channel: grpc.Channel) -> None:
        """Later calls take a new connection. This one is closed with the next that is left: until then another thread
        may be about to call on it."""
        with self._lock:
            if channel is self._channel and not self._is_closed:
                self._channel = _open_channel(self._endpoint)
                previous, self._left = self._left, channel
                if previous is not None:
                    previous.close()

    def _fetch_result(self, execution_id: str) -> ExecutionResult:
        return result_of(self.get_execution(execution_id))

    def _backoff(self, deadline_s: float | None) -> Backoff:
        return Backoff(self._reconnect, random.uniform, deadline_s=deadline_s)


def _open_channel(to: Endpoint) -> grpc.Channel:
    if to.tls is None:
        return grpc.insecure_channel(to.target, options=to.options())
    return grpc.secure_channel(to.target, to.tls.credentials(), options=to.options())
