from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from torana_server.core.clock import Micros
from torana_server.core.errors import UnavailableError
from torana_server.vault import Action, AuditRecord
from torana_server.vault.audit import ReadAudit

NEVER_S = 3_600.0


def record(n: int) -> AuditRecord:
    return AuditRecord(Micros(n), "a", "alice", Action.READ, "db")


class Log:
    """An audit store that can be out of order."""

    def __init__(self) -> None:
        self.batches: list[list[AuditRecord]] = []
        self.failures = 0
        self.appended = asyncio.Event()
        self.started: asyncio.Queue[int] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, records: Sequence[AuditRecord]) -> None:
        self.started.put_nowait(len(records))
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the disk is away")
        self.batches.append(list(records))
        self.appended.set()


async def test_reads_are_written_together_at_the_interval() -> None:
    log = Log()
    audit = ReadAudit(log.append, interval_s=0)
    for n in range(3):
        await audit.add(record(n))
    assert log.batches == []
    await log.appended.wait()
    assert log.batches == [[record(0), record(1), record(2)]]


async def test_flush_waits_for_every_record_added_before() -> None:
    log = Log()
    audit = ReadAudit(log.append, interval_s=NEVER_S)
    await audit.add(record(0))
    log.gate.clear()
    first = asyncio.create_task(audit.flush())
    await log.started.get()
    await audit.add(record(1))
    second = asyncio.create_task(audit.flush())
    log.gate.set()
    await asyncio.gather(first, second)
    assert log.batches == [[record(0)], [record(1)]]
    await audit.close()


async def test_a_failed_write_is_tried_again_at_the_next_interval(caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    log.failures = 2
    audit = ReadAudit(log.append, interval_s=0)
    await audit.add(record(0))
    await log.appended.wait()
    assert log.batches == [[record(0)]]
    assert len([r for r in caplog.records if "waits for the store" in r.message]) == 2


async def test_a_full_buffer_is_written_before_the_next_read() -> None:
    log = Log()
    audit = ReadAudit(log.append, interval_s=NEVER_S, records_max=2)
    for n in range(3):
        await audit.add(record(n))
    assert log.batches == [[record(0), record(1)]]
    await audit.close()


async def test_reads_fail_while_a_full_buffer_cannot_be_written() -> None:
    log = Log()
    log.failures = 1
    audit = ReadAudit(log.append, interval_s=NEVER_S, records_max=1)
    await audit.add(record(0))
    with pytest.raises(UnavailableError):
        await audit.add(record(1))
    await audit.add(record(2))
    await audit.close()
    assert log.batches == [[record(0)], [record(2)]]


async def test_a_cancelled_flush_writes_its_batch_once() -> None:
    log = Log()
    log.gate.clear()
    audit = ReadAudit(log.append, interval_s=NEVER_S)
    await audit.add(record(0))
    flush = asyncio.create_task(audit.flush())
    await log.started.get()
    flush.cancel()
    log.gate.set()
    await audit.close()
    assert log.batches == [[record(0)]]


async def test_closing_writes_what_waits() -> None:
    log = Log()
    audit = ReadAudit(log.append, interval_s=NEVER_S)
    await audit.add(record(0))
    await audit.close()
    assert log.batches == [[record(0)]]
