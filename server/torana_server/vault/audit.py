"""Audit of reads. Reads are too frequent for a commit each, so they are written together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from torana_server.core import logs
from torana_server.core.errors import ToranaError
from torana_server.vault.ports import AuditRecord

FLUSH_INTERVAL_S = 1.0
RECORDS_MAX = 10_000

_log = logs.logger("vault")


class ReadAudit:
    """Holds records of reads for at most about `FLUSH_INTERVAL_S` seconds, then appends them in one go.

    A process that is killed loses those it held. While the store cannot be written the records wait for it;
    once `RECORDS_MAX` wait, further reads fail with the store's error: no read goes unrecorded for good.
    """

    def __init__(
        self,
        append: Callable[[Sequence[AuditRecord]], Awaitable[None]],
        *,
        interval_s: float = FLUSH_INTERVAL_S,
        records_max: int = RECORDS_MAX,
    ) -> None:
        self._append = append
        self._interval_s = interval_s
        self._records_max = records_max
        self._records: list[AuditRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None
        self._closed = False

    async def add(self, record: AuditRecord) -> None:
        if len(self._records) >= self._records_max:
            await self.flush()
        self._records.append(record)
        if self._timer is None:
            self._arm()

    async def flush(self) -> None:
        """Returns once every record added before the call is stored. Raises the store's UnavailableError."""
        for _ in range(2):  # a batch already under way may lack the newest records; the next one has them
            if not self._records:
                return
            if self._writing is None:
                self._writing = asyncio.create_task(self._write())
                self._writing.add_done_callback(_retrieve)
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Flushes and stops. Raises like `flush`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.flush()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._start_background)

    def _start_background(self) -> None:
        self._timer = None
        self._background = asyncio.create_task(self._flush_and_log())

    async def _flush_and_log(self) -> None:
        try:
            await self.flush()
        except ToranaError as error:
            _log.warning("audit of secret reads waits for the store: %s (%d waiting)", error, len(self._records))
            if self._timer is None and not self._closed:
                self._arm()

    async def _write(self) -> None:
        # Shielded from cancellation by `flush`, so that no batch is appended twice.
        batch = tuple(self._records)
        try:
            await self._append(batch)
            del self._records[: len(batch)]
        finally:
            self._writing = None


def _retrieve(task: asyncio.Task[None]) -> None:
    """Marks a failure as seen: those who waited have it, and all of them may have been cancelled."""
    if not task.cancelled():
        task.exception()
