"""The call that is being answered, for everything that happens within it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.message import Message

from torana_server.access import LOCAL, Principal
from torana_server.core import logs


@dataclass(slots=True)
class Call:
    """`method` is the full name, such as "/torana.v1.ExecutionService/Execute". `attached` are messages that go into
    the details if the call fails."""

    method: str
    request_id: str
    peer: str
    principal: Principal = LOCAL
    attached: list[Message] = field(default_factory=list)
    traceparent: str = ""
    """The caller's W3C trace context, as it came."""

    def log_fields(self) -> dict[str, object]:
        """What log lines say that are written while the call is answered."""
        fields: dict[str, object] = {
            "request_id": self.request_id,
            "rpc": self.method,
            "tenant": self.principal.tenant,
            "subject": self.principal.subject,
        }
        trace = _TRACEPARENT.fullmatch(self.traceparent)
        return {**fields, "trace_id": trace[1], "span_id": trace[2]} if trace else fields


_TRACEPARENT = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

_current: ContextVar[Call] = ContextVar("torana_call")


def enter(call: Call) -> None:
    """Each call is answered in a task of its own, whose context ends with it."""
    _current.set(call)
    logs.enter(call)


def current() -> Call:
    return _current.get()


def principal() -> Principal:
    """Who is calling."""
    return _current.get().principal


class Authenticator(Protocol):
    """Says who is calling."""

    async def authenticate(self, method: str, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Principal:
        """`peer` is the caller's address as gRPC writes it.

        Raises ToranaError with UNAUTHENTICATED for missing or wrong credentials and PERMISSION_DENIED for a caller who
        may not use the method.
        """


class Everybody:
    """For a server without authentication: whoever can reach it is the local principal."""

    async def authenticate(self, method: str, metadata: Iterable[tuple[str, str | bytes]], peer: str) -> Principal:
        return LOCAL
