"""The outermost interceptor: every call, whichever service it is for, is answered within it.

It gives the call an id and a principal, reads the request itself (gRPC answers one that cannot be read with its own
words), drains streams in the task of the call (left to gRPC, a generator's `finally` runs in another task), and turns
errors into statuses. A cancellation always passes through it: swallowed, it leaks; raised anew, it hangs the client.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from torana_server.core import logs
from torana_server.core.errors import InvalidRequestError, Reason, UnavailableError, Violation
from torana_server.core.ids import new_id
from torana_server.rpc import calls
from torana_server.rpc.calls import Authenticator, Call
from torana_server.rpc.interceptors.tally import Tally
from torana_server.rpc.registration import serialised
from torana_server.rpc.settings import RpcSettings
from torana_server.rpc.status import (
    REQUEST_ID_KEY,
    code_of,
    is_defect,
    reason_of,
    to_status,
    trailers,
)

logger = logs.logger("rpc")

_PROCESS: Final = new_id()[-12:]
_COUNTER: Final = itertools.count(1)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Answer = Callable[[Any, Context, Call], Awaitable[Any]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    def __init__(self, authenticator: Authenticator, tally: Tally, settings: RpcSettings) -> None:
        self._authenticator = authenticator
        self._tally = tally
        self._timeout_s = settings.unary_timeout_s
        self._message_bytes_max = settings.message_bytes_max
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method = handler_call_details.method
        wrapped = self._handlers.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # there is no such method
            # Methods are finite and their handlers do not change.
            wrapped = self._handlers[method] = self._wrapped(method, handler)
        return wrapped

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        if handler.response_streaming:
            answer, make = self._streamed(handler), _STREAM_HANDLERS[handler.request_streaming]
        else:
            assert not handler.request_streaming, "no service here takes a stream and gives one message"
            answer, make = self._unary(handler), grpc.unary_unary_rpc_method_handler

        async def behavior(request: Any, context: Context) -> Any:
            return await self._call(method, answer, request, context)

        return make(behavior, request_deserializer=None, response_serializer=handler.response_serializer)

    async def _call(self, method: str, answer: Answer, request: Any, context: Context) -> Any:
        started = time.perf_counter()
        metadata = context.invocation_metadata() or ()
        request_id, wanted = _request_id(metadata)
        call = Call(method, request_id, context.peer(), traceparent=_traceparent(metadata))
        calls.enter(call)
        self._tally.begin(call)
        code, reason = grpc.StatusCode.CANCELLED, ""
        try:
            call.principal = await self._authenticator.authenticate(method, metadata, call.peer)
            if wanted:
                context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            response = await answer(request, context, call)
            code = grpc.StatusCode.OK
        except grpc.aio.AbortError:
            code = context.code()
            raise
        except grpc.aio.InternalError:
            raise  # the client is gone and a message could not be sent; gRPC knows
        except Exception as error:  # noqa: BLE001 — the boundary of a call
            code, reason = code_of(error), reason_of(error).value
            await _refuse(call, error, context)
        else:
            return response
        finally:
            self._tally.end(call, code, reason, time.perf_counter() - started)

    def _unary(self, handler: Handler) -> Answer:
        behavior: Any = handler.unary_unary  # typed for the blocking server
        deserialize = handler.request_deserializer
        own = handler.response_serializer is serialised

        async def answer(request: bytes, context: Context, call: Call) -> Any:
            message = _read(deserialize, request)
            try:
                async with asyncio.timeout(self._timeout_s) as limit:
                    response = await behavior(message, context)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise UnavailableError(
                    f"the server had no answer within {self._timeout_s:g} s; whether the call took effect is unknown",
                    retry_after_s=1.0,
                ) from None
            return self._bounded(serialised(response)) if own else response

        return answer

    def _streamed(self, handler: Handler) -> Answer:
        behavior: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
        deserialize = handler.request_deserializer

        async def answer(request: Any, context: Context, call: Call) -> None:
            message = _read_all(deserialize, request) if handler.request_streaming else _read(deserialize, request)
            responses = behavior(message, context)
            if not inspect.isasyncgen(responses):
                await responses  # it writes by itself
                return
            async with aclosing(responses):
                async for response in responses:
                    await context.write(response)

        return answer

    def _bounded(self, response: bytes) -> bytes:
        """gRPC's own refusal would look like a server that has too much to do."""
        if len(response) > self._message_bytes_max:
            raise InvalidRequestError(
                f"the answer takes {len(response)} bytes, above this server's limit of {self._message_bytes_max} for a "
                "message; ask for less, or read an execution's outputs from its events",
                reason=Reason.VALUE_TOO_LARGE,
                metadata={"sizeBytes": str(len(response)), "limitBytes": str(self._message_bytes_max)},
            )
        return response


_STREAM_HANDLERS: Final[dict[bool, Callable[..., Handler]]] = {
    False: grpc.unary_stream_rpc_method_handler,
    True: grpc.stream_stream_rpc_method_handler,
}


async def _refuse(call: Call, error: Exception, context: Context) -> None:
    if is_defect(error):
        logger.error("the call met a defect of the server", exc_info=error)
    status = to_status(error, call.request_id, call.attached)
    await context.abort(code_of(error), status.message, trailers(status, call.request_id))


def _request_id(metadata: Any) -> tuple[str, bool]:
    """The caller's own id of this call if it can stand in a log line, else a new one; and whether the caller named
    one, and so wants to hear it back from a call that succeeds too."""
    named = next((value for key, value in metadata if key == REQUEST_ID_KEY), None)
    if isinstance(named, str) and _REQUEST_ID.fullmatch(named):
        return named, True
    return f"{_PROCESS}-{next(_COUNTER):x}", named is not None


def _traceparent(metadata: Any) -> str:
    named = next((value for key, value in metadata if key == "traceparent"), "")
    return named if isinstance(named, str) else ""


def _read(deserialize: Callable[[bytes], Any] | None, data: bytes) -> Any:
    try:
        return data if deserialize is None else deserialize(data)
    except DecodeError:
        raise InvalidRequestError(
            "the request is not a message of this method, or its values are nested too deeply for protobuf",
            violations=[Violation("", "send the message of this method; deep values fit into a Payload's `json`")],
        ) from None


async def _read_all(deserialize: Callable[[bytes], Any] | None, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for data in requests:
        yield _read(deserialize, data)
