"""A server whose journal and vault are in PostgreSQL, and what it does when PostgreSQL is away."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from pydantic import SecretStr

import torana
from integration.cli.servers import torana as command
from integration.conftest import POSTGRES_PASSWORD, PostgresDatabase, PostgresServer, free_port
from servers import running_server
from torana_server import Gateway, SecretManager, Settings, StepContext, WorkflowBuilder, WorkflowRequest
from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.secrets import PostgresSecretStore
from torana_server.core.errors import Reason, UnavailableError, VaultError
from torana_server.vault import Keyring, LocalKey, keyring_from_text

CALLERS, CALLS = 8, 15
KILL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name LIKE 'torana %' AND datname = current_database()
"""
KEYS = "test:" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return Settings(journal=postgres_url, vault_keys=KEYS, data_dir=tmp_path / "data", drain_grace_s=1)


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
    async with Gateway(settings=settings) as gateway:
        yield gateway


@pytest.fixture
def stopping(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """The cluster, for a test that stops it."""
    yield postgres_server
    with contextlib.suppress(Exception):
        postgres_server.stop()
    postgres_server.start()


def doubling() -> Any:
    async def double(number: int) -> int:
        return 2 * number

    return WorkflowBuilder("double").add_step("double", double).build()


async def doubled(gateway: Gateway, number: int) -> Any:
    response = await gateway.execute_workflow("double", WorkflowRequest(parameters={"number": number}))
    return response.result["double"]


# --- embedding ------------------------------------------------------------------------------------------------------


async def test_a_gateway_keeps_executions_and_secrets_in_postgresql_and_no_file(settings: Settings) -> None:
    async with Gateway(settings=settings) as gateway:
        gateway.register_workflow("double", doubling())
        await gateway.secret_manager.store_secret("db", {"password": "x"})
        assert await doubled(gateway, 21) == 42
        (execution,) = await gateway.list_executions()
        health = await gateway.health_check()
        assert health["components"]["journal"]["status"] == "healthy"
    async with Gateway(settings=settings) as again:
        assert (await again.get_execution(execution.id)).state == "completed"
        assert await again.secret_manager.get_secret("db") == {"password": "x"}
    assert not settings.data_dir.exists()


async def test_a_schema_of_another_name_is_another_journal(settings: Settings) -> None:
    async with (
        Gateway(settings=settings) as one,
        Gateway(settings=settings.model_copy(update={"journal_schema": "other"})) as other,
    ):
        await one.secret_manager.store_secret("db", {"password": "x"})
        assert await other.secret_manager.list_secrets() == []


async def test_a_vault_that_servers_share_is_refused_without_a_keyring_that_they_share(settings: Settings) -> None:
    without = settings.model_copy(update={"vault_keys": None})
    with pytest.raises(VaultError, match="needs a keyring that every server has"):
        await Gateway(settings=without).start()
    manager = SecretManager(keyring=Keyring([LocalKey.random("given-")]))
    async with Gateway(settings=without, secret_manager=manager) as gateway:
        await gateway.secret_manager.store_secret("db", {"password": "x"})


async def test_a_server_with_another_key_is_refused(settings: Settings, gateway: Gateway) -> None:
    await gateway.secret_manager.store_secret("db", {"password": "x"})
    other = SecretManager(keyring=Keyring([LocalKey.random("other-")]))
    with pytest.raises(VaultError) as caught:
        await Gateway(settings=settings, secret_manager=other).start()
    assert caught.value.reason is Reason.VAULT_SEALED


class ToldStore(PostgresSecretStore):
    """Counts how often it was told of a change."""

    def listen(self, changed: Callable[[], None]) -> None:
        self.told = asyncio.Semaphore(0)

        def tell() -> None:
            changed()
            self.told.release()

        super().listen(tell)


async def test_a_secret_that_one_server_changes_is_dropped_by_the_caches_of_the_others(
    settings: Settings, gateway: Gateway, postgres_url: str
) -> None:
    store = await ToldStore.open(Place(postgres_url, "torana"))
    polls_never = SecretManager(monotonic=lambda: 0.0)
    await polls_never.open(store, keyring_from_text(KEYS))
    await store.told.acquire()  # that it listens from now on
    await gateway.secret_manager.store_secret("db", {"password": "old"})
    await store.told.acquire()
    assert await polls_never.get_secret("db") == {"password": "old"}
    await gateway.secret_manager.store_secret("db", {"password": "new"})
    async with asyncio.timeout(1):
        await store.told.acquire()
    assert await polls_never.get_secret("db") == {"password": "new"}
    await polls_never.close()


# --- a start that cannot succeed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wrong"}, "it refuses the user or the password"),
        ({"database": "none"}, "it has no such database"),
        ({"port": "closed"}, "nothing listens there"),
        ({"host": "no.such.host.invalid"}, "its host name is not known"),
    ],
)
async def test_a_start_says_why_the_database_cannot_be_used_and_not_the_password(
    postgres: PostgresDatabase, change: dict[str, str], said: str
) -> None:
    where = {"host": postgres.host, "port": str(postgres.port), "database": postgres.database}
    where |= {"password": POSTGRES_PASSWORD, **change}
    where["port"] = where["port"].replace("closed", str(free_port()))
    address = "postgresql://{}:{}@{host}:{port}/{database}".format(postgres.user, quote(where["password"], ""), **where)
    with pytest.raises(UnavailableError) as caught:
        await Gateway(settings=Settings(journal=address, vault_keys=KEYS, journal_wait_s=0)).start()
    message = str(caught.value)
    assert said in message
    assert f"{where['host']}:{where['port']}/{where['database']}" in message
    assert where["password"] not in message


async def test_a_role_without_privileges_is_told_so(postgres_server: PostgresServer, settings: Settings) -> None:
    name = settings.journal.rpartition("/")[2]
    await asyncio.to_thread(postgres_server.execute, f"ALTER DATABASE {name} OWNER TO postgres")
    with pytest.raises(UnavailableError, match="the user lacks a privilege"):
        await Gateway(settings=settings).start()


GRANTS = (
    "GRANT USAGE ON SCHEMA torana TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA torana TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA torana TO {role}",
)


async def test_a_role_that_may_change_rows_and_no_tables_runs_a_server(
    settings: Settings, postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    role = f"app_{postgres.database}"
    async with Gateway(settings=settings):
        pass  # by the owner, who makes the tables
    owner: Any = await asyncpg.connect(postgres.url)
    await asyncio.to_thread(postgres_server.execute, f"CREATE ROLE {role} LOGIN PASSWORD 'app'")
    for grant in GRANTS:
        await owner.execute(grant.format(role=role))
    await owner.close()
    change: dict[str, object] = {"journal": f"postgresql://{role}@{postgres.host}:{postgres.port}/{postgres.database}"}
    change["journal_password"] = SecretStr("app")
    async with Gateway(settings=settings.model_copy(update=change)) as gateway:
        gateway.register_workflow("double", doubling())
        assert await doubled(gateway, 4) == 8
        await gateway.secret_manager.store_secret("db", {"password": "x"})
        await gateway.secret_manager.delete_secret("db")


async def test_a_start_waits_for_a_database_that_is_not_there_yet(settings: Settings, stopping: PostgresServer) -> None:
    await asyncio.to_thread(stopping.stop)
    gateway = Gateway(settings=settings)
    gateway.register_workflow("double", doubling())
    waiting = asyncio.Event()
    with told("torana.journal", "waiting for the database", waiting):
        starting = asyncio.create_task(gateway.start())
        await waiting.wait()
    await asyncio.to_thread(stopping.start)
    await starting
    assert await doubled(gateway, 4) == 8
    await gateway.close()


@contextlib.contextmanager
def told(logger: str, text: str, event: asyncio.Event) -> Iterator[None]:
    """Sets the event when a line with the text is logged."""

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                event.set()

    handler = Listening()
    logging.getLogger(logger).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(logger).removeHandler(handler)


async def test_the_password_is_in_no_output_of_any_process(postgres: PostgresDatabase, tmp_path: Path) -> None:
    said: list[str] = []
    with running_server(
        "served.tiny", tmp_path / "data", journal=postgres.url, vault_keys=KEYS, log_level="DEBUG"
    ) as server:
        async with torana.Client(server.address) as client:
            await client.execute_workflow("tiny", {"number": 1})
            await killed_connections(postgres)
            assert (await client.execute_workflow("tiny", {"number": 1})).is_success
        server.stop()
        said.append(server.log.read_text())
    for arguments in (("config", "show"), ("config", "show", "-o", "json"), ("doctor",), ("doctor", "-o", "json")):
        ran = await asyncio.to_thread(command, *arguments, TORANA_JOURNAL=postgres.url, TORANA_VAULT_KEYS=KEYS)
        assert postgres.database in ran.stdout
        said.append(ran.stdout + ran.stderr)
    nowhere = {"TORANA_JOURNAL": f"{postgres.url}_gone", "TORANA_VAULT_KEYS": KEYS, "TORANA_DEBUG": "1"}
    refused = await asyncio.to_thread(command, "serve", "--address", "127.0.0.1:0", **nowhere)
    assert (refused.returncode, "no such database" in refused.stderr) == (1, True)
    for text in (*said, refused.stdout + refused.stderr):
        assert postgres.password not in text
        assert quote(postgres.password, "") not in text


async def killed_connections(postgres: PostgresDatabase) -> None:
    killer: Any = await asyncpg.connect(postgres.url)
    await killer.execute(KILL)
    await killer.close()


# --- a database that goes away --------------------------------------------------------------------------------------


class Gate:
    """A step that waits for the test."""

    def __init__(self) -> None:
        self.arrived, self.open, self.runs = asyncio.Event(), asyncio.Event(), 0

    async def wait(self, ctx: StepContext) -> int:
        self.runs += 1
        self.arrived.set()
        await self.open.wait()
        return self.runs


async def test_what_runs_waits_for_a_database_that_is_stopped_and_new_work_is_refused_clearly(
    gateway: Gateway, stopping: PostgresServer
) -> None:
    gate = Gate()
    gateway.register_workflow("double", doubling())
    gateway.register_workflow("waits", WorkflowBuilder("waits").add_step("wait", gate.wait).build())
    execution = await gateway.start_workflow("waits")
    await gate.arrived.wait()
    await asyncio.to_thread(stopping.stop)
    gate.open.set()
    with pytest.raises(UnavailableError) as caught:
        await doubled(gateway, 1)
    assert caught.value.reason is Reason.JOURNAL_UNAVAILABLE
    assert caught.value.retry_after_s is not None
    assert (await gateway.health_check())["status"] == "unhealthy"
    with pytest.raises(UnavailableError):
        await gateway.secret_manager.store_secret("db", {"password": "x"})
    await asyncio.to_thread(stopping.start)
    response = await gateway.wait(execution)
    assert response.result == {"wait": 1}
    await gateway.secret_manager.store_secret("db", {"password": "x"})
    assert await gateway.secret_manager.get_secret("db") == {"password": "x"}
    assert await doubled(gateway, 2) == 4


async def test_connections_that_are_killed_again_and_again_lose_nothing(
    gateway: Gateway, postgres: PostgresDatabase
) -> None:
    gateway.register_workflow("double", doubling())
    done = asyncio.Semaphore(0)
    refused: list[Reason] = []

    async def until_answered(request: WorkflowRequest) -> Any:
        while True:
            try:
                return (await gateway.execute_workflow("double", request)).result["double"]
            except UnavailableError as error:
                refused.append(error.reason)

    async def work(caller: int) -> None:
        for number in range(CALLS):
            request = WorkflowRequest(parameters={"number": number}, idempotency_key=f"{caller}-{number}")
            assert await until_answered(request) == 2 * number
            done.release()

    async def kill_now_and_then() -> None:
        killer: Any = await asyncpg.connect(postgres.url)
        for _ in range(CALLERS * CALLS // 20):
            await killer.execute(KILL)
            for _ in range(20):
                await done.acquire()
        await killer.close()

    async with asyncio.timeout(60):
        await asyncio.gather(kill_now_and_then(), *(work(caller) for caller in range(CALLERS)))
    assert set(refused) <= {Reason.JOURNAL_UNAVAILABLE}
    executions = await gateway.list_executions(limit=500)
    assert len({execution.idempotency_key for execution in executions}) == len(executions) == CALLERS * CALLS
    for execution in executions:
        events = [event async for event in gateway.watch(execution.id)]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event.kind for event in events if event.is_terminal] == ["completed"]
