"""A TCP proxy whose connections can be cut, as a network does it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes between callers and `port`. `accepted` counts the connections so far."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.accepted = 0
        self._target = port
        self._callers: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def cut(self) -> None:
        """Resets every open connection; new ones are welcome at once."""
        for caller in [one for one in self._callers if not one.transport.is_closing()]:
            connection: socket.socket = caller.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            caller.transport.abort()

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._callers.add(writer)
        self._idle.clear()
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass_on(reader, upstream_writer))
                    group.create_task(_pass_on(upstream_reader, writer))
            finally:
                upstream_writer.transport.abort()
        except* OSError:
            pass  # one side went away, and with it the connection
        finally:
            writer.transport.abort()
            self._callers.discard(writer)
            if not self._callers:
                self._idle.set()

    async def close(self) -> None:
        self.cut()
        await self._idle.wait()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(port)
    listener = await asyncio.start_server(proxy.serve_one, "127.0.0.1", 0)
    async with listener:
        proxy.port = listener.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            listener.close()
            await proxy.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    raise ConnectionResetError
