"""The call that is being answered, for everything that happens within it."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.message import Message

from torana_server.access import LOCAL, Principal


@dataclass(slots=True)
class Call:
    """`method` is the full name, such as "/torana.v1.ExecutionService/Execute". `attached` are messages that go into
    the details if the call fails."""

    method: str
    request_id: str
    peer: str
    principal: Principal = LOCAL
    attached: list[Message] = field(default_factory=list)


_current: ContextVar[Call] = ContextVar("torana_call")


def enter(call: Call) -> None:
    """Each call is answered in a task of its own, whose context ends with it."""
    _current.set(call)


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
