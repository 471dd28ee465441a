"""A TCP proxy between a server and its database that can be cut, reset, or made to deliver late what was sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False)
class _Link:
    far: asyncio.StreamWriter
    near: asyncio.StreamWriter
    held: bytearray = field(default_factory=bytearray)


class Wire:
    """Connections to `port` of this machine lead to the database."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._cut = False
        self._holding: set[_Link] = set()

    def cut(self) -> None:
        """What is open falls silent, what is new gets no answer, until `mend`."""
        self._cut = True

    def mend(self) -> None:
        """New connections work again. Those that fell silent stay so."""
        self._cut = False
        for link in self._links:
            link.near.transport.abort()
            link.far.transport.abort()

    def reset_all(self) -> None:
        for link in self._links:
            link.near.transport.abort()

    def hold(self, port: int) -> None:
        """What is sent from this port reaches the database at `deliver`, even if the sender is gone."""
        self._holding = {link for link in self._links if link.near.get_extra_info("peername")[1] == port}

    def deliver(self) -> bool:
        """Whether anything was held."""
        held = [link for link in self._holding if link.held]
        for link in held:
            link.far.write(bytes(link.held))
        self._holding = set()
        return bool(held)

    async def accept(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self._cut:
            await near_reader.read()
            near.transport.abort()
            return
        far_reader, far = await asyncio.open_connection("127.0.0.1", self._target_port)
        link = _Link(far, near)
        self._links.add(link)
        try:
            await asyncio.gather(self._forth(near_reader, link), self._back(far_reader, link))
        finally:
            self._links.discard(link)
            near.transport.abort()
            far.transport.abort()

    async def _forth(self, reader: asyncio.StreamReader, link: _Link) -> None:
        async for chunk in _chunks(reader):
            if link in self._holding:
                link.held += chunk
            elif not self._cut:
                link.far.write(chunk)
        if link not in self._holding and not self._cut:
            link.far.transport.abort()

    async def _back(self, reader: asyncio.StreamReader, link: _Link) -> None:
        async for chunk in _chunks(reader):
            if not self._cut:
                link.near.write(chunk)
        link.near.transport.abort()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65_536):
            yield chunk


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    wire = Wire(port)
    tasks: set[asyncio.Task[Any]] = set()

    def accepted(*ends: Any) -> None:
        tasks.add(asyncio.create_task(wire.accept(*ends)))

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0)
    wire.port = listener.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
