"""Resource isolation: a step reaches only what it declares, and one name in two requests is two things."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from integration.conftest import PostgresServer
from scenarios.conftest import database_reference
from scenarios.running import REFUSALS, Reference, Run

CLERK = {"user": "choir_clerk", "password": "la-la-la"}


@pytest.fixture(scope="session")
def clerk(postgres_server: PostgresServer) -> None:
    postgres_server.execute(f"CREATE ROLE {CLERK['user']} LOGIN PASSWORD '{CLERK['password']}'")


@pytest.fixture
async def resources(run: Run, clerk: None, sql: Any, database: Reference) -> dict[str, Reference]:
    """One database, two logins: the clerk's may read the singers and not the treasury."""
    await sql.execute(
        f"""
        CREATE TABLE singers (name text);
        CREATE TABLE treasury (coins int);
        INSERT INTO singers VALUES ('alto'), ('tenor');
        INSERT INTO treasury VALUES (41);
        GRANT SELECT ON singers TO {CLERK["user"]};
        """
    )
    await run.store_secret("clerk_login", CLERK)
    return {"singers": {**database, "credentials_ref": "clerk_login"}, "treasury": database}


async def test_each_step_uses_the_login_that_it_declared(run: Run, resources: dict[str, Reference]) -> None:
    outcome = await run("concert", {}, resources=resources)
    assert outcome.result == {"sing": {"singers": 2}, "count": {"coins": 41}}


@pytest.mark.parametrize("workflow", ["thief", "sly_thief"])
async def test_a_resource_that_the_step_did_not_declare_is_out_of_reach(
    run: Run, resources: dict[str, Reference], workflow: str
) -> None:
    outcome = await run(workflow, {}, resources=resources)
    refused = "step 'pry' may not use resource 'treasury': its required_resources are singers"
    if workflow == "thief":
        assert (outcome.status, outcome.error.reason) == ("failed", "RESOURCE_NOT_DECLARED")
        assert outcome.error.message.startswith(refused)
    else:
        assert outcome.result["pry"]["refused"].startswith(refused)


async def test_the_clerks_login_does_not_open_the_treasury_under_another_name(
    run: Run, resources: dict[str, Reference]
) -> None:
    swapped = {"singers": resources["singers"], "treasury": resources["singers"]}
    outcome = await run("concert", {}, resources=swapped)
    assert (outcome.error.step, outcome.error.type) == ("count", "InsufficientPrivilegeError")


async def test_the_same_name_in_two_requests_at_once_is_two_databases(
    run: Run, postgres_server: PostgresServer, sql: Any, database: Reference
) -> None:
    await sql.execute("CREATE TABLE visits (guest text)")
    other = await asyncio.to_thread(postgres_server.database, "blank")
    connection: Any = await asyncpg.connect(other.url)
    await connection.execute("CREATE TABLE visits (guest text)")
    await connection.close()
    here, there = await asyncio.gather(
        run("guest_book", {"guest": "ada"}, resources={"book": database}),
        run("guest_book", {"guest": "bo"}, resources={"book": database_reference(other)}),
    )
    assert (here.result["write"], there.result["write"]) == (["ada"], ["bo"])


async def test_a_name_of_one_request_means_nothing_in_the_next(run: Run, sql: Any, database: Reference) -> None:
    await sql.execute("CREATE TABLE visits (guest text)")
    await run("guest_book", {"guest": "ada"}, resources={"book": database})
    with pytest.raises(REFUSALS) as refusal:
        await run("guest_book", {"guest": "bo"})
    assert refusal.value.reason == "RESOURCE_NOT_BOUND"
