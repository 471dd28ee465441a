"""Workflows whose code logs in every way that code has: its own loggers, libraries', tasks, threads, errors."""

from __future__ import annotations

import asyncio
import logging

from torana_server import Gateway, StepContext, WorkflowBuilder
from torana_server.core.errors import StepError

log = logging.getLogger("their.library")

SOURCE = """
import logging
logging.getLogger("their.library").info("source")
logger.info("loaded", extra={"rows": 3})
return 1
"""


async def talk(ctx: StepContext, text: str = "") -> None:
    log.info("step %s", text)
    await asyncio.gather(in_a_task(), asyncio.to_thread(log.info, "to_thread"))
    ctx.logger.debug("quiet")


async def in_a_task() -> None:
    log.info("task")


def block() -> None:
    log.info("def")


def fail() -> None:
    try:
        raise ValueError("first\nline")
    except ValueError:
        log.exception("trouble")
    raise StepError("gave up", retryable=False)


def register(gateway: Gateway) -> None:
    talks = WorkflowBuilder("talks").add_step("talk", talk).add_async_code("source", SOURCE).add_step("block", block)
    gateway.register_workflow("talks", talks.build())
    gateway.register_workflow("fails", WorkflowBuilder("fails").add_step("fail", fail).build())
