"""A database without a database: it answers the SQL it was told about, and remembers everything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import asyncpg

from torana_server.core.errors import Reason, ResourceError, StepError
from torana_server.resources.acquisition import Acquisition
from torana_server.testing.records import FakeRecord, records_of
from torana_server.testing.rules import Rule, Rules, answer_of

Outcome = Literal["immediate", "open", "committed", "rolled back"]
ACQUIRE_TIMEOUT_S: Final = 10.0
_VERB = re.compile(r"\s*(\w+)")


@dataclass(slots=True)
class Query:
    """One statement that a step ran. `args` are its arguments; of `executemany`, the rows.

    `outcome` is what became of it: `immediate` outside a transaction, else that of its transaction.
    """

    sql: str
    args: tuple[Any, ...]
    method: str
    outcome: Outcome

    @property
    def lasting(self) -> bool:
        """Whether a real database would have kept its effects."""
        return self.outcome in ("immediate", "committed")

    def __str__(self) -> str:
        arguments = ", ".join(map(repr, (_one_line(self.sql), *self.args)))
        return f"{self.method}({arguments}) [{self.outcome}]"


class UnknownQueryError(StepError, LookupError):
    """A step ran SQL that the fake was told nothing about."""


class FakeDatabase:
    """What `get_resource` gives for a `database`: an asyncpg pool by its shape.

    `answers(sql, answer)` tells it what to say. `sql` is a text that the statement contains (case and white space do
    not matter) or a compiled pattern that is found in it. `answer` is rows (mappings), one row, a single value, None,
    the status text of an `execute`, an exception to raise, or a function of the statement's arguments that returns
    any of these; it may be async. The newest answer wins; `times` limits how often it is given.

    Nothing is stored: a rollback undoes no answer, but `queries` tells what was committed and what was not.
    """

    def __init__(self, *, size: int = 10) -> None:
        """`size` is how many connections there are."""
        self.size = size
        self.queries: list[Query] = []
        self._rules: Rules[str] = Rules()
        self._free = asyncio.Semaphore(size)
        self._taken: set[FakeConnection] = set()

    # what tests say and ask

    def answers(self, sql: str | re.Pattern[str], answer: Any, *, times: int | None = None) -> FakeDatabase:
        """Returns itself, so that calls can be chained."""
        text = sql if isinstance(sql, str) else sql.pattern
        self._rules.add(Rule(_one_line(text), _fits(sql), answer, times))
        return self

    def fails(
        self, sql: str | re.Pattern[str], error: BaseException | type[BaseException], *, times: int | None = 1
    ) -> FakeDatabase:
        """The statement raises `error`, such as `asyncpg.UniqueViolationError("…")`, and answers as before then."""
        return self.answers(sql, error, times=times)

    def ran(self, sql: str | re.Pattern[str]) -> list[Query]:
        """The statements that contain `sql`, in order."""
        fits = _fits(sql)
        return [query for query in self.queries if fits(query.sql)]

    def kept(self, sql: str | re.Pattern[str]) -> list[Query]:
        """Those of them whose effects a real database would have kept."""
        return [query for query in self.ran(sql) if query.lasting]

    @property
    def in_use(self) -> int:
        """Connections that were acquired and not released."""
        return len(self._taken)

    # what steps use

    @property
    def freesize(self) -> int:
        return self.size - self.in_use

    def get_size(self) -> int:
        return self.size

    def get_idle_size(self) -> int:
        return self.freesize

    def acquire(self, *, timeout: float | None = None) -> Acquisition[FakeConnection]:
        """A connection, by `async with` or by `await` and `release`."""
        return Acquisition(lambda: self._take(ACQUIRE_TIMEOUT_S if timeout is None else timeout), self.release)

    async def release(self, connection: FakeConnection, *, timeout: float | None = None) -> None:
        """As asyncpg's: what is still in a transaction is rolled back, and the connection is of no more use."""
        if connection in self._taken:
            connection.leave()
            self._taken.discard(connection)
            self._free.release()

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[FakeConnection]:
        async with self.acquire() as connection, connection.transaction(**options):
            yield connection

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[FakeRecord]:
        async with self.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> FakeRecord | None:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args, column=column)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        async with self.acquire() as connection:
            return await connection.execute(query, *args)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        async with self.acquire() as connection:
            await connection.executemany(command, args)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a FakeDatabase has no {name!r}; use a real database to test a step that needs it")

    async def answer(self, query: Query) -> Any:
        """What was registered for the query. Raises UnknownQueryError."""
        self.queries.append(query)
        rule = self._rules.take(query.sql)
        if rule is None:
            raise UnknownQueryError(
                f"the fake database was told nothing about: {_one_line(query.sql)}\nit knows:\n{self._rules.known()}",
                reason=Reason.STEP_FAILED,
            )
        return await answer_of(rule, *query.args)

    async def _take(self, timeout_s: float) -> FakeConnection:
        try:
            async with asyncio.timeout(timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise ResourceError(
                f"all {self.size} connections of the fake database were in use for {timeout_s:g} s; release what is "
                "acquired, or make it larger: FakeDatabase(size=…)",
                reason=Reason.RESOURCE_POOL_EXHAUSTED,
            ) from None
        connection = FakeConnection(self)
        self._taken.add(connection)
        return connection


class FakeConnection:
    """One connection: statements, and transactions that nest as savepoints do."""

    def __init__(self, database: FakeDatabase) -> None:
        self._database = database
        self._transactions: list[list[Query]] = []
        self._released = False

    def leave(self) -> None:
        """Rolls back what is open. Statements raise from now on."""
        self._released = True
        while self._transactions:
            _settle(self._transactions.pop(), "rolled back")

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[FakeRecord]:
        return records_of(await self._run("fetch", query, args))

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> FakeRecord | None:
        rows = records_of(await self._run("fetchrow", query, args))
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        rows = records_of(await self._run("fetchval", query, args))
        return rows[0][column] if rows else None

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """The status: the answer where it is a text, else made from the statement and the number of its rows."""
        answer = await self._run("execute", query, args)
        return answer if isinstance(answer, str) else _status(query, answer)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        await self._run("executemany", command, tuple(tuple(row) for row in args))

    def transaction(self, **options: Any) -> FakeTransaction:
        return FakeTransaction(self._transactions)

    def is_in_transaction(self) -> bool:
        return bool(self._transactions)

    def is_closed(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a FakeConnection has no {name!r}; use a real database to test a step that needs it")

    async def _run(self, method: str, sql: str, args: tuple[Any, ...]) -> Any:
        if self._released:
            raise asyncpg.InterfaceError(f"cannot call {method}(): the connection has been released back to the pool")
        query = Query(sql, args, method, "open" if self._transactions else "immediate")
        if self._transactions:
            self._transactions[-1].append(query)
        return await self._database.answer(query)


class FakeTransaction:
    """`async with connection.transaction()`, or `start`, `commit` and `rollback`."""

    def __init__(self, open_ones: list[list[Query]]) -> None:
        self._open = open_ones

    async def start(self) -> None:
        self._open.append([])

    async def commit(self) -> None:
        queries = self._pop("commit")
        if self._open:
            self._open[-1] += queries  # a savepoint: the transaction around it decides
        else:
            _settle(queries, "committed")

    async def rollback(self) -> None:
        _settle(self._pop("rollback"), "rolled back")

    def _pop(self, method: str) -> list[Query]:
        if not self._open:
            raise asyncpg.InterfaceError(f"cannot {method}; no transaction is open on this connection")
        return self._open.pop()

    async def __aenter__(self) -> FakeTransaction:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await (self.commit() if error is None else self.rollback())


def _settle(queries: Iterable[Query], outcome: Outcome) -> None:
    for query in queries:
        query.outcome = outcome


def _one_line(sql: str) -> str:
    return " ".join(sql.split())


def _fits(sql: str | re.Pattern[str]) -> Callable[[str], bool]:
    if isinstance(sql, str):
        wanted = _one_line(sql).casefold()
        return lambda query: wanted in _one_line(query).casefold()
    return lambda query: sql.search(query) is not None


def _status(query: str, answer: object) -> str:
    verb = found[1].upper() if (found := _VERB.match(query)) else ""
    count = answer if isinstance(answer, int) else len(records_of(answer)) or 1
    return {"INSERT": f"INSERT 0 {count}"}.get(verb, f"{verb} {count}" if verb in _COUNTED else verb)


_COUNTED = frozenset({"UPDATE", "DELETE", "SELECT", "MERGE", "COPY"})
