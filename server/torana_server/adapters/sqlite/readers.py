"""Reads on connections and threads of their own: they wait for no write."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from torana_server.adapters.sqlite.database import translated

Found = TypeVar("Found")


class Readers:
    """As many threads as connections; a read that finds all of them busy waits its turn."""

    def __init__(self, connections: Sequence[apsw.Connection]) -> None:
        self._connections = connections
        self._free: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        for connection in connections:
            self._free.put(connection)
        self._threads = ThreadPoolExecutor(len(connections), thread_name_prefix="journal-reader")

    async def read(self, query: Callable[[apsw.Connection], Found]) -> Found:
        """`query` on a reader's thread. Raises UnavailableError if SQLite cannot answer."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._on_thread, query)

    async def close(self) -> None:
        """After the reads that wait."""
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    def _on_thread(self, query: Callable[[apsw.Connection], Found]) -> Found:
        connection = self._free.get()
        try:
            return query(connection)
        except apsw.Error as error:
            raise translated(error) from error
        finally:
            self._free.put(connection)
