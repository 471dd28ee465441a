from __future__ import annotations

import re

import asyncpg
import pytest

from torana_server.core.errors import Reason, ResourceError
from torana_server.core.values import decode, encode
from torana_server.testing import FakeDatabase, FakeRecord, UnknownQueryError, virtual_time

USERS = [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]


async def test_a_text_is_found_in_the_statement_whatever_its_case_and_white_space() -> None:
    db = FakeDatabase().answers("select id, name from users", USERS)
    rows = await db.fetch("SELECT id,  name\n  FROM users\n WHERE active")
    assert [dict(row) for row in rows] == USERS


async def test_a_pattern_is_searched_in_the_statement() -> None:
    db = FakeDatabase().answers(re.compile(r"FROM \w+ WHERE id = \$1"), lambda key: USERS[key - 1])
    row = await db.fetchrow("SELECT * FROM users WHERE id = $1", 2)
    assert row is not None
    assert row["name"] == "Bob"


async def test_a_row_is_read_by_index_and_by_name_like_a_record_of_the_driver() -> None:
    row = FakeRecord(USERS[0])
    assert (row[0], row["name"], row.get("name"), row.get("x", 9), row[0:2]) == (1, "Ann", "Ann", 9, (1, "Ann"))
    assert (list(row), list(row.keys()), list(row.items())) == (
        [1, "Ann"],
        ["id", "name"],
        [("id", 1), ("name", "Ann")],
    )
    assert ("id" in row, "x" in row, len(row), dict(row)) == (True, False, 2, USERS[0])
    assert row == (1, "Ann")
    assert repr(row) == "<Record id=1 name='Ann'>"


async def test_a_row_goes_on_to_the_next_step_as_an_object() -> None:
    assert decode(encode([FakeRecord(row) for row in USERS])) == USERS


@pytest.mark.parametrize(
    ("answer", "rows", "value"),
    [(USERS, 2, 1), (USERS[0], 1, 1), (41, 1, 41), (None, 0, None), ([], 0, None), (lambda: 7, 1, 7)],
)
async def test_an_answer_is_rows_a_row_a_value_or_none(answer: object, rows: int, value: object) -> None:
    db = FakeDatabase().answers("SELECT", answer)
    assert len(await db.fetch("SELECT 1")) == rows
    assert await db.fetchval("SELECT 1") == value
    first = await db.fetchrow("SELECT 1")
    assert (first is None) == (rows == 0)


async def test_a_function_may_be_async_and_gets_the_arguments() -> None:
    async def double(number: int) -> int:
        return number * 2

    db = FakeDatabase().answers("SELECT $1 * 2", double)
    assert await db.fetchval("SELECT $1 * 2", 21) == 42


@pytest.mark.parametrize(
    ("sql", "answer", "status"),
    [
        ("INSERT INTO t VALUES (1)", None, "INSERT 0 1"),
        ("UPDATE t SET x = 1", 3, "UPDATE 3"),
        ("DELETE FROM t", "DELETE 12", "DELETE 12"),
        ("CREATE TABLE t ()", None, "CREATE"),
    ],
)
async def test_execute_tells_a_status_like_the_driver(sql: str, answer: object, status: str) -> None:
    assert await FakeDatabase().answers(sql, answer).execute(sql) == status


async def test_the_newest_answer_wins_and_one_that_is_used_up_uncovers_the_one_before() -> None:
    db = FakeDatabase().answers("SELECT", 1).answers("SELECT", 2, times=2)
    assert [await db.fetchval("SELECT") for _ in range(4)] == [2, 2, 1, 1]


async def test_a_failure_raises_the_drivers_error_once_and_then_there_is_the_answer() -> None:
    db = FakeDatabase().answers("INSERT", None).fails("INSERT", asyncpg.UniqueViolationError("duplicate key"))
    with pytest.raises(asyncpg.UniqueViolationError, match="duplicate"):
        await db.execute("INSERT INTO t VALUES (1)")
    assert await db.execute("INSERT INTO t VALUES (1)") == "INSERT 0 1"


async def test_sql_that_nobody_told_it_about_is_an_error_that_lists_what_it_knows() -> None:
    db = FakeDatabase().answers("SELECT 1", 1).answers("SELECT 2", 2, times=1)
    await db.fetch("SELECT 2")
    with pytest.raises(UnknownQueryError) as caught:
        await db.fetch("DROP  TABLE users")
    message = str(caught.value)
    assert "told nothing about: DROP TABLE users" in message
    assert "  SELECT 1\n  SELECT 2 (used up after 1)" in message


async def test_every_statement_is_remembered_with_its_arguments() -> None:
    db = FakeDatabase().answers("INSERT", None)
    await db.execute("INSERT INTO t VALUES ($1, $2)", 1, "a")
    await db.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
    assert [(query.method, query.args) for query in db.queries] == [
        ("execute", (1, "a")),
        ("executemany", ((1,), (2,))),
    ]
    assert db.ran("insert into t values ($1)") == [db.queries[1]]
    assert str(db.queries[0]) == "execute('INSERT INTO t VALUES ($1, $2)', 1, 'a') [immediate]"


async def test_what_a_transaction_did_is_kept_when_it_commits() -> None:
    db = FakeDatabase().answers("UPDATE", 1)
    async with db.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE t SET x = 1")
        assert db.queries[0].outcome == "open"
    assert [query.outcome for query in db.kept("UPDATE")] == ["committed"]


async def test_what_a_transaction_did_is_not_kept_when_it_fails() -> None:
    db = FakeDatabase().answers("UPDATE", 1)
    db.fails("UPDATE other", asyncpg.DeadlockDetectedError("deadlock"))

    async def two_updates() -> None:
        async with db.transaction() as connection:
            await connection.execute("UPDATE t SET x = 1")
            await connection.execute("UPDATE other SET x = 1")

    with pytest.raises(asyncpg.DeadlockDetectedError):
        await two_updates()
    assert db.kept("UPDATE") == []
    assert [query.outcome for query in db.ran("UPDATE")] == ["rolled back", "rolled back"]


async def test_a_savepoint_is_kept_only_with_the_transaction_around_it() -> None:
    db = FakeDatabase().answers("UPDATE", 1)
    async with db.acquire() as connection:
        outer = connection.transaction()
        await outer.start()
        async with connection.transaction():
            await connection.execute("UPDATE inner")
        assert connection.is_in_transaction()
        await outer.rollback()
        assert not connection.is_in_transaction()
    assert [query.outcome for query in db.queries] == ["rolled back"]


async def test_a_connection_that_was_given_back_is_of_no_more_use_and_keeps_nothing() -> None:
    db = FakeDatabase().answers("insert", None)
    async with db.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO orders VALUES (1)")
    assert db.ran("insert")[0].outcome == "rolled back"
    with pytest.raises(asyncpg.InterfaceError, match=r"cannot call execute\(\): the connection has been released"):
        await connection.execute("INSERT INTO orders VALUES (2)")
    with pytest.raises(asyncpg.InterfaceError, match="cannot commit; no transaction is open"):
        await transaction.commit()
    assert len(db.queries) == 1


async def test_connections_are_counted_and_a_pool_that_is_used_up_says_so() -> None:
    db = FakeDatabase(size=2)
    async with virtual_time():
        first = await db.acquire()
        async with db.acquire():
            assert (db.size, db.freesize, db.get_size(), db.get_idle_size(), db.in_use) == (2, 0, 2, 0, 2)
            with pytest.raises(ResourceError, match="all 2 connections") as caught:
                await db.acquire()
            assert caught.value.reason is Reason.RESOURCE_POOL_EXHAUSTED
        await db.release(first)
        await db.release(first)
    assert db.freesize == 2


async def test_what_a_fake_cannot_do_is_an_error_that_says_so() -> None:
    db = FakeDatabase()
    with pytest.raises(AttributeError, match="use a real database"):
        _ = db.copy_to_table
    async with db.acquire() as connection:
        with pytest.raises(AttributeError, match="no 'cursor'"):
            connection.cursor()


def test_a_rule_that_never_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least once"):
        FakeDatabase().answers("SELECT", 1, times=0)


async def test_a_row_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(TypeError, match="mapping of its columns"):
        await FakeDatabase().answers("SELECT", [1, 2]).fetch("SELECT")
