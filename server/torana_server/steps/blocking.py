"""The step context for plain `def` steps, which run in a thread and cannot await."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from torana_server.steps.context import StepContext
from torana_server.steps.log import StepLogger

T = TypeVar("T")


class BlockingStepContext:
    """`ctx` of a `def` step: what StepContext has, with methods that block the thread until done.

    Resources belong to the event loop; `wait` runs their coroutines there: `ctx.wait(db.fetch("SELECT 1"))`.
    """

    __slots__ = ("_ctx", "_loop")

    def __init__(self, ctx: StepContext) -> None:
        self._ctx = ctx
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> object:
        """Everything that does not wait is as in StepContext."""
        return getattr(self._ctx, name)

    @property
    def logger(self) -> StepLogger:
        return self._ctx.logger

    def get_resource(self, name: str) -> Any:
        return self.wait(self._ctx.get_resource(name))

    def progress(self, fraction: float, message: str = "", **data: object) -> None:
        self.wait(self._ctx.progress(fraction, message, **data))

    def emit(self, topic: str, value: object) -> None:
        self.wait(self._ctx.emit(topic, value))

    def checkpoint(self, value: object) -> None:
        self.wait(self._ctx.checkpoint(value))

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Runs the awaitable on the event loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), self._loop).result()


def _as_coroutine(awaitable: Awaitable[T]) -> Coroutine[object, object, T]:
    if asyncio.iscoroutine(awaitable):
        return awaitable
    return _awaited(awaitable)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
