"""A server dies right before and right after each durable step of its code; the next ones keep its promises."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from asyncio import CancelledError
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

import torana
from crash.failpoints import EXIT_CODE, Failpoint, durable_steps
from crash.images.checker import check_file
from served.effects import Act, recorded
from servers import Gates, gates

EXCUSED: Final = {
    "adapters.sqlite.ledger:commit:execute#3": "rolls back, after a commit that failed",
    "adapters.sqlite.schema:migrate:execute#4": "migrates a journal of an older version",
    "adapters.sqlite.secrets:_transaction:execute#3": "rolls back, after a commit that failed",
    "adapters.sqlite.secrets:_trim_audit:execute": "for operators; no server trims its audit by itself",
    "execution.appender:_append_if_missing:append": "after the journal was unavailable",
    "execution.appender:_append_if_missing:append#2": "after the journal was unavailable",
    "execution.driving:_abandoned:request": "the request of `cancel`, when its caller is gone",
    "execution.driving:_is_owned:append": "after the journal was unavailable",
    "vault.open_vault:append_audit:append_audit": "when secrets move from memory to a store",
    "vault.open_vault:trim_audit:trim_audit": "for operators; no server trims its audit by itself",
}
"""Steps that the sessions below do not come to, and why."""
STEPS: Final = [step for step in durable_steps() if step not in EXCUSED]
POINTS: Final = [Failpoint(step, when) for step in STEPS for when in ("before", "after")]
PAIRS: Final = 12
NTH_MAX: Final = 4
SESSION_S_MAX: Final = 60
TOKEN: Final = "a token of 22 letters!"
ZYGOTE: Final = Path(__file__).with_name("failpoint_server.py")

pytestmark = pytest.mark.slow


@dataclass(slots=True)
class Zygote:
    """`failpoint_server.py`, which forks servers."""

    process: subprocess.Popen[str]

    def ask(self, **order: Any) -> dict[str, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    command = [sys.executable, str(ZYGOTE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Zygote(process)
        assert process.stdin is not None
        process.stdin.close()


@dataclass(slots=True)
class Told:
    """What the client was told, over all sessions."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Idempotency keys to executions."""
    secrets: set[str] = field(default_factory=set)

    def accept(self, key: str, execution: str) -> None:
        assert self.accepted.setdefault(key, execution) == execution, f"{key} started two executions"


@dataclass(slots=True)
class Session:
    """What a client does on a server. All of it may be done again, on the next server."""

    effects: str
    doors: Gates
    told: Told

    async def run(self, client: torana.Client, *, is_last: bool) -> None:
        await self.keep_secrets(client)
        await self.finish(client, "tiny", "tiny", effects=self.effects)
        read = await self.finish(client, "reads", "reads", name="kept")
        assert read.result == {"read": len(TOKEN)}
        await self.cancel(client)
        waiting = await self.start(client, "waits", "waiting", **self.at_gate("waiting"))
        if is_last:
            self.doors.open("waiting")
            assert (await client.watch(waiting).result()).is_success
        else:
            await self.doors.arrived("waiting")

    async def keep_secrets(self, client: torana.Client) -> None:
        for name in ("kept", "gone"):
            await client.put_secret(name, {"token": TOKEN})
            self.told.secrets.add(name)
        self.told.secrets.discard("gone")
        await client.delete_secret("gone")
        await client.rotate_keys()
        assert {secret.name async for secret in client.list_secrets()} >= self.told.secrets

    async def cancel(self, client: torana.Client) -> None:
        execution = await self.start(client, "waits", "cancelled", **self.at_gate("cancelled"))
        with contextlib.suppress(torana.errors.ExecutionFinishedError):
            await client.cancel_execution(execution)
        assert (await client.watch(execution).result()).status == "cancelled"

    async def start(self, client: torana.Client, workflow: str, key: str, **parameters: Any) -> str:
        execution = (await client.start_workflow(workflow, parameters, idempotency_key=key)).id
        self.told.accept(key, execution)
        return execution

    async def finish(self, client: torana.Client, workflow: str, key: str, **parameters: Any) -> Any:
        execution = await self.start(client, workflow, key, **parameters)
        result = await client.watch(execution).result()
        assert result.is_success
        return result

    def at_gate(self, gate: str) -> dict[str, Any]:
        return {"effects": self.effects, "gates": self.doors.port, "gate": gate}


@dataclass(slots=True)
class World:
    zygote: Zygote
    folder: Path
    effects: Path
    told: Told = field(default_factory=Told)

    async def session(self, doors: Gates, point: Failpoint | None, nth: int = 1, *, is_last: bool = False) -> int:
        """One server, from its start until it has stopped or died; its exit code."""
        where = {"step": point.step, "when": point.when} if point else {"step": "", "when": ""}
        server = self.zygote.ask(folder=str(self.folder), nth=nth, **where)
        exited = asyncio.create_task(asyncio.to_thread(self.zygote.ask, wait=server["process"]))
        if server["port"]:
            session = Session(str(self.effects), doors, self.told)
            async with torana.Client(f"127.0.0.1:{server['port']}") as client:
                work = asyncio.create_task(session.run(client, is_last=is_last))
                await asyncio.wait({work, exited}, timeout=SESSION_S_MAX, return_when=asyncio.FIRST_COMPLETED)
                await self.end(server["process"], work, exited)
        return (await exited)["code"]

    async def end(self, process: int, work: asyncio.Task[None], exited: asyncio.Task[dict[str, int]]) -> None:
        """What the client was told counts when the server lives; otherwise that it was told nothing more."""
        if not exited.done():
            with contextlib.suppress(ProcessLookupError):  # its calls may fail a moment before its death is known
                os.kill(process, signal.SIGTERM)
        died = (await exited)["code"] == EXIT_CODE
        assert died or work.done(), f"the client is not through:\n{self.folder.with_suffix('.log').read_text()}"
        work.cancel()
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
        if outcome is not None and not (died and isinstance(outcome, torana.errors.UnavailableError | CancelledError)):
            raise outcome

    def add_key(self) -> None:
        """So that the tenant keys must be wrapped anew."""
        file = self.folder / "vault.key"
        keys = file.read_text() if file.exists() else ""
        if ":" in keys:  # what is there of the file must do as it is
            fresh = f"new-{random.randrange(1 << 64):x}:{base64.b64encode(os.urandom(32)).decode()}"
            file.write_text(f"{fresh}\n{keys}")

    async def check(self, address: str) -> None:
        """On a server that serves after all."""
        async with torana.Client(address) as client:
            listed = {execution.idempotency_key: execution async for execution in client.list_executions()}
            assert {key: execution.id for key, execution in listed.items()} == self.told.accepted
            journals = {one.id: [event async for event in client.watch(one.id)] for one in listed.values()}
        for journal in journals.values():
            check_journal(journal)
        check_effects([event for journal in journals.values() for event in journal], recorded(self.effects))


def check_journal(journal: Sequence[torana.Event]) -> None:
    assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
    assert [event.sequence for event in journal if event.is_terminal] == [len(journal)]
    assert [event.time for event in journal] == sorted(event.time for event in journal)


def check_effects(events: Sequence[torana.Event], acts: Sequence[Act]) -> None:
    """A step that completed never ran again, and every attempt had its own number and the same idempotency key."""
    completed = {(event.execution, event.step): event.attempt for event in events if event.kind == "step_completed"}
    by_step: dict[tuple[str, str], list[Act]] = defaultdict(list)
    for act in acts:
        by_step[act.execution, act.step].append(act)
    for step, of_step in by_step.items():
        attempts = [act.attempt for act in of_step]
        assert attempts == sorted(set(attempts)), f"{step} ran twice as one attempt: {attempts}"
        assert attempts[-1] <= completed.get(step, attempts[-1]), f"{step} ran after it had completed"
        assert len({act.key for act in of_step}) == 1, "the idempotency key changed"


@pytest.fixture
def world(zygote: Zygote, tmp_path: Path) -> World:
    return World(zygote, tmp_path / "data", tmp_path / "effects")


async def survive(world: World, points: Sequence[tuple[Failpoint, int]]) -> list[int]:
    """A session for each failpoint, and a last one in which everything must be done. Exit codes of the former."""
    codes = []
    async with gates() as doors:
        for point, nth in points:
            codes.append(await world.session(doors, point, nth))
            world.add_key()
        assert await world.session(doors, None, is_last=True) == 0
    await check_at_rest(world)
    return codes


async def check_at_rest(world: World) -> None:
    server = world.zygote.ask(folder=str(world.folder), nth=1, step="", when="")
    try:
        await world.check(f"127.0.0.1:{server['port']}")
    finally:
        os.kill(server["process"], signal.SIGTERM)
        assert world.zygote.ask(wait=server["process"]) == {"code": 0}
    for name in ("journal.db", "vault.db"):
        check_file(world.folder / name)


@pytest.mark.parametrize("point", POINTS, ids=str)
async def test_a_server_that_dies_at_a_durable_step_keeps_its_promises(point: Failpoint, world: World) -> None:
    """Many a step is first done by the second server: it recovers, and finds another key."""
    codes = await survive(world, [(point, 1), (point, 1)])
    assert set(codes) <= {0, EXIT_CODE}
    assert EXIT_CODE in codes, f"no server came to {point.step}: let a session do it, or say in EXCUSED why none can"


@pytest.mark.parametrize("seed", range(PAIRS))
async def test_servers_that_die_one_after_another_keep_their_promises(seed: int, world: World) -> None:
    draw = random.Random(seed)
    points = [(draw.choice(POINTS), draw.randrange(1, NTH_MAX + 1)) for _ in range(3)]
    codes = await survive(world, points)
    assert set(codes) <= {0, EXIT_CODE}


def test_every_excuse_is_for_a_step_that_there_is() -> None:
    assert EXCUSED.keys() <= set(durable_steps())
