"""Something to `await`, or to use with `async with`: the two ways in which steps take connections and responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Acquisition(Generic[T]):
    """`await acquisition` takes and leaves giving back to the caller; `async with acquisition` does both."""

    __slots__ = ("_give_back", "_take", "_taken")

    def __init__(self, take: Callable[[], Awaitable[T]], give_back: Callable[[T], Awaitable[None]]) -> None:
        self._take = take
        self._give_back = give_back
        self._taken: T

    def __await__(self) -> Generator[object, None, T]:
        return self._take().__await__()

    async def __aenter__(self) -> T:
        self._taken = await self._take()
        return self._taken

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._give_back(self._taken)
