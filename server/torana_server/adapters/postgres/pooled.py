"""Connections through a proxy that pools transactions, such as PgBouncer: each may be given another session.

Nothing of a session lasts there: no settings, no names of statements, no notifications. So every call is a transaction
that begins with the settings. It takes two round trips more.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg


def pooled_connection(settings: Mapping[str, str]) -> type[asyncpg.Connection]:
    """A class of connections whose `fetch`, `fetchrow`, `fetchval`, `transaction`, and `execute` with arguments, are or
    become transactions with these settings."""
    begin = "BEGIN; " + "; ".join(f"SET LOCAL {name} = {_literal(text)}" for name, text in settings.items())

    class PooledConnection(asyncpg.Connection):
        __slots__ = ()

        @contextlib.asynccontextmanager
        async def transaction(self, **_: Any) -> AsyncIterator[None]:  # type: ignore[override] # for "async with" alone
            await super().execute(begin)
            try:
                yield
            except BaseException:
                if not self.is_closed():
                    await super().execute("ROLLBACK")
                raise
            await super().execute("COMMIT")

        async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
            async with self._within():
                return await super().fetch(query, *args, **options)

        async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
            async with self._within():
                return await super().fetchrow(query, *args, **options)

        async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
            async with self._within():
                return await super().fetchval(query, *args, **options)

        async def execute(self, query: str, *args: Any, **options: Any) -> Any:
            async with self._within():
                return await super().execute(query, *args, **options)

        def _within(self) -> contextlib.AbstractAsyncContextManager[None]:
            return contextlib.nullcontext() if self.is_in_transaction() else self.transaction()

    return PooledConnection


def _literal(text: str) -> str:
    return text if text.startswith('"') else f"'{text}'"
