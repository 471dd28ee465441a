from __future__ import annotations

import asyncio

import pytest

from simulation.virtual_time import simulated
from torana_server.core.errors import Reason, StepError
from torana_server.core.limits import EVENTS_PER_EXECUTION_MAX
from torana_server.core.values import Payload
from torana_server.execution.events import LogLevel, StepEmitted, StepLog
from torana_server.execution.inbox import BUFFER_CHARS_MAX, BUFFER_EVENTS_MAX, Inbox, resolve_all
from torana_server.execution.scheduler import Fact

FACT = Fact(StepLog(LogLevel.INFO, "line"), "a", 1)


async def full() -> Inbox:
    inbox = Inbox()
    for _ in range(BUFFER_EVENTS_MAX):
        await inbox.room()
        inbox.put(FACT)
    return inbox


@simulated
async def test_a_wake_before_the_wait_is_not_lost() -> None:
    inbox = Inbox()
    inbox.wake()
    await inbox.wait()
    second = asyncio.ensure_future(inbox.wait())
    await asyncio.sleep(1)
    assert not second.done()
    inbox.wake()
    await second


@simulated
async def test_a_writer_waits_while_the_buffer_is_full() -> None:
    inbox = await full()
    writer = asyncio.ensure_future(inbox.room())
    await asyncio.sleep(60)
    assert not writer.done()
    written, _ = inbox.take_written()
    assert len(written) == BUFFER_EVENTS_MAX
    await writer


@simulated
async def test_many_waiting_writers_never_overfill_the_buffer() -> None:
    inbox = await full()

    async def write() -> None:
        await inbox.room()
        inbox.put(FACT)

    writers = asyncio.gather(*(write() for _ in range(3 * BUFFER_EVENTS_MAX)))
    taken = 0
    while not writers.done():
        await asyncio.sleep(0.001)
        written, _ = inbox.take_written()
        assert len(written) <= BUFFER_EVENTS_MAX
        taken += len(written)
    assert taken == 4 * BUFFER_EVENTS_MAX


@simulated
async def test_a_log_line_that_does_not_fit_is_refused_at_once() -> None:
    inbox = await full()
    assert inbox.offer(FACT) is False
    inbox.take_written()
    assert inbox.offer(FACT) is True


@simulated
async def test_events_beyond_the_limit_of_an_execution_are_refused() -> None:
    inbox = Inbox()
    inbox.taken_events = EVENTS_PER_EXECUTION_MAX - 1
    inbox.put(FACT)
    with pytest.raises(StepError) as refused:
        inbox.put(FACT)
    assert refused.value.reason == Reason.TOO_MANY_EVENTS
    assert refused.value.retryable is False
    assert inbox.offer(FACT) is False


@simulated
async def test_who_writes_durably_is_told_by_the_one_who_took_it() -> None:
    inbox = Inbox()
    durable = inbox.put_durably(FACT)
    written, waiting = inbox.take_written()
    assert (written, waiting) == ([FACT], [durable])
    assert not durable.done()
    resolve_all(waiting)
    await durable


@simulated
async def test_closing_cancels_whoever_waits() -> None:
    inbox = await full()
    writer = asyncio.ensure_future(inbox.room())
    durable = inbox.put_durably(FACT)
    await asyncio.sleep(0)
    inbox.close()
    results = await asyncio.gather(writer, durable, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, asyncio.CancelledError]


@simulated
async def test_few_large_events_fill_the_buffer_too() -> None:
    inbox = Inbox()
    large = Fact(StepEmitted("rows", Payload('"' + "x" * (BUFFER_CHARS_MAX // 4) + '"')), "a", 1)
    for _ in range(4):
        await inbox.room()
        inbox.put(large)
    assert inbox.offer(FACT) is False
    writer = asyncio.ensure_future(inbox.room())
    await asyncio.sleep(60)
    assert not writer.done()
    inbox.take_written()
    await writer
    assert inbox.offer(FACT) is True
