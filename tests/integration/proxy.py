"""A TCP proxy on loopback that resets its connections after given numbers of bytes, or lets them fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterable

CHUNK = 2_048
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Link:
    """One connection through the proxy. `bytes_left` counts both directions; None: as many as come."""

    def __init__(self, bytes_left: int | None) -> None:
        self.bytes_left = bytes_left
        self.silent = False
        self._writers: list[asyncio.StreamWriter] = []

    async def carry(self, ends: tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter], ...]) -> bool:
        """Until either side ends, or the bytes are used up, which resets both sides; whether that was it."""
        (near_reader, near), (far_reader, far) = ends
        self._writers = [near, far]
        pumps = [asyncio.create_task(self._pump(near_reader, far)), asyncio.create_task(self._pump(far_reader, near))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self.reset()
        return self.bytes_left == 0

    def reset(self) -> None:
        for writer in self._writers:
            end: socket.socket | None = writer.get_extra_info("socket")
            if end is not None and end.fileno() >= 0:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while self.bytes_left != 0 and (chunk := await reader.read(CHUNK)):
                if self.silent:
                    continue
                if self.bytes_left is not None:
                    chunk = chunk[: self.bytes_left]
                    self.bytes_left -= len(chunk)
                writer.write(chunk)
                await writer.drain()


class Proxy:
    """`address` leads to a port of this machine. Connection by connection, `budgets` says after how many bytes each is
    reset; a connection beyond the last budget is left alone."""

    def __init__(self, target_port: int, budgets: Iterable[int]) -> None:
        self.port = 0
        self.cuts = 0
        self._target_port = target_port
        self._budgets = iter(budgets)
        self._links: set[Link] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fall_silent(self) -> None:
        """The connections of now stay open and carry nothing any more; later ones work."""
        for link in self._links:
            link.silent = True

    def reset_all(self) -> None:
        for link in self._links:
            link.reset()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(next(self._budgets, None))
        self._links.add(link)
        try:
            far = await asyncio.open_connection("127.0.0.1", self._target_port)
            self.cuts += await link.carry(((reader, writer), far))
        except ConnectionError:
            writer.transport.abort()
        finally:
            self._links.discard(link)


@contextlib.asynccontextmanager
async def proxy_to(port: int, budgets: Iterable[int] = ()) -> AsyncIterator[Proxy]:
    proxy = Proxy(port, budgets)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        proxy.reset_all()
