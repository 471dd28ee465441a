"""Callers from outside: they race, give up, come back, cancel, retry, and write down what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from simulation.history import Asked, Fault, Seen, Told
from simulation.replicas import Method, Process, Server, Site
from simulation.world import CALLER
from torana_server.core.errors import ConflictError, ExhaustedError, Reason, StateError, ToranaError, UnavailableError
from torana_server.core.values import Payload
from torana_server.execution import ALL_EVENTS, Batch, EventFilter, EventKind, ExecutionRequest

DEADLINE_S: Final = 3.0
PAUSE_S: Final = 0.3
UNKNOWN: Final = frozenset({Reason.JOURNAL_UNAVAILABLE, Reason.SERVER_DRAINING, "DEADLINE_EXCEEDED"})
"""Reasons after which the outcome of a call is not known (P8)."""
FILTERS: Final = (
    ALL_EVENTS,
    ALL_EVENTS,
    EventFilter(kinds=frozenset({EventKind.STEP_COMPLETED, EventKind.STEP_FAILED})),
    EventFilter(steps=frozenset({"s0", "s2"})),
    EventFilter(kinds=frozenset({EventKind.EXECUTION_COMPLETED})),
)


class Errand(NamedTuple):
    """What one client is out for. With a key it asks until it knows; without, once."""

    workflow: str
    key: str = ""
    parameters: str = "{}"
    starts_at_s: float = 0.0
    cancels_after_s: float | None = None
    leaves_after_s: float | None = None
    """When it goes for good, having asked for `cancel_on_disconnect`."""
    retries: bool = False
    watchers: int = 1

    @classmethod
    def drawn(cls, chance: random.Random, workflows: Sequence[str]) -> list[Errand]:
        """Some of them race for one key, some with another request."""
        errands = [cls._one(chance, workflows, index) for index in range(chance.randrange(2, 6))]
        if chance.random() < 0.5:
            first = errands[0]._replace(key="raced", leaves_after_s=None)
            errands[0] = first
            errands += [first._replace(starts_at_s=first.starts_at_s + chance.choice((0, 0, 0.001, 2.0)))] * 2
            if chance.random() < 0.5:
                errands.append(first._replace(parameters='{"other":1}', retries=False))
        return errands

    @classmethod
    def _one(cls, chance: random.Random, workflows: Sequence[str], index: int) -> Errand:
        return cls(
            workflow=chance.choice(workflows),
            key=f"key{index}" if chance.random() < 0.7 else "",
            starts_at_s=chance.choice((0.0, 0.0, 2.0, 6.0)) * chance.random(),
            cancels_after_s=chance.random() * 6 if chance.random() < 0.2 else None,
            leaves_after_s=chance.random() * 4 if chance.random() < 0.15 else None,
            retries=chance.random() < 0.4,
            watchers=chance.choice((0, 1, 1, 2)),
        )


class DeadlineExceededError(ToranaError):
    """The client's own: it waited as long as it would."""

    default_reason = "DEADLINE_EXCEEDED"  # type: ignore[assignment]  # a status of gRPC, no reason of the server's


class Clients:
    """All of them, on one machine that never fails."""

    def __init__(self, site: Site, servers: Sequence[Server]) -> None:
        self._site = site
        self._universe = site.universe
        self._chance = site.universe.chance
        self._history = site.history
        self._servers = servers
        self.machine = site.universe.machine("clients")
        self.at_work = 0
        self.patient = False
        """Set once nothing fails any more: errors that only patience explains are then no reason to go on asking."""

    def send(self, errand: Errand) -> None:
        self._spawn(self._run(errand))

    def audit(self, executions: Sequence[str]) -> None:
        """Everything is read once more from the beginning, wherever."""
        for execution in executions:
            self._spawn(self._follow(execution, ALL_EVENTS))

    def _spawn(self, work: Any) -> None:
        self.at_work += 1
        self.machine.create_task(work).add_done_callback(self._came_back)

    def _came_back(self, task: asyncio.Task[Any]) -> None:
        self.at_work -= 1
        if task.exception() is not None:
            self._history.defects.append(f"a client met {task.exception()!r}")

    # --- errands ------------------------------------------------------------------------------------------------

    async def _run(self, errand: Errand) -> None:
        await asyncio.sleep(errand.starts_at_s)
        execution = await self._start(errand)
        if not execution:
            return
        if errand.leaves_after_s is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._follow(execution, ALL_EVENTS), errand.leaves_after_s)
            return
        watchers = [self._follow(execution, self._chance.choice(FILTERS)) for _ in range(errand.watchers)]
        if errand.cancels_after_s is not None:
            watchers.append(self._cancel(execution, errand.cancels_after_s))
        await asyncio.gather(*watchers)
        if errand.retries:
            await self._retry(execution, errand)

    async def _start(self, errand: Errand) -> str:
        request = ExecutionRequest(
            workflow=errand.workflow,
            parameters=Payload(errand.parameters),
            idempotency_key=errand.key,
            cancel_on_disconnect=errand.leaves_after_s is not None,
            disconnect_grace_s=1.0,
        )
        call = self._universe.number()
        self._history.add(Asked(self._universe.now_s, call, errand.workflow, errand.key, errand.parameters))
        return await self._until_known(call, "start", errand.key, lambda p: p.engine.start(CALLER, request))

    async def _retry(self, execution: str, errand: Errand) -> None:
        key = f"{errand.key or 'unnamed'}-again"
        call = self._universe.number()
        self._history.add(Asked(self._universe.now_s, call, errand.workflow, key, f"retry of {execution}"))
        again = await self._until_known(call, "retry", key, lambda p: p.engine.retry(CALLER, execution, key))
        if again:
            await self._follow(again, ALL_EVENTS)

    async def _until_known(self, call: int, method: str, key: str, ask: Method) -> str:
        """The execution; "" when it was refused, or there is no telling."""
        while True:
            try:
                started = await self._call(ask)
            except ToranaError as error:
                named = error.metadata.get("execution", "")
                self._history.add(Told(self._universe.now_s, call, method, named, error.reason))
                if error.reason in UNKNOWN and key:
                    await asyncio.sleep(PAUSE_S)
                    continue
                if isinstance(error, ExhaustedError) and self._chance.random() < 0.7:
                    await asyncio.sleep(PAUSE_S * 3)
                    continue
                if error.reason == Reason.WORKFLOW_NOT_FOUND:
                    continue  # this server knows less than others
                if isinstance(error, ConflictError | StateError | ExhaustedError) or error.reason in UNKNOWN:
                    return ""
                if error.reason == Reason.INVALID_WORKFLOW and method == "retry":
                    continue
                raise
            execution: str = started.summary.execution
            self._history.add(Told(self._universe.now_s, call, method, execution, "", started.attached))
            return execution

    async def _cancel(self, execution: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        call = self._universe.number()
        while True:
            try:
                await self._call(lambda p: p.engine.cancel(CALLER, execution, "by chance"))
                self._history.add(Told(self._universe.now_s, call, "cancel", execution, ""))
                return
            except ToranaError as error:
                self._history.add(Told(self._universe.now_s, call, "cancel", execution, error.reason))
                if error.reason == Reason.EXECUTION_FINISHED:
                    return
                if error.reason not in UNKNOWN:
                    raise
                await asyncio.sleep(PAUSE_S)

    # --- watching -----------------------------------------------------------------------------------------------

    async def _follow(self, execution: str, where: EventFilter) -> None:
        """To the end, on any server, from where it was cut off."""
        watcher = _Watcher(self._universe.number(), execution, where)
        while not watcher.ended:
            try:
                patience_s = 1e9 if self._chance.random() < 0.7 else self._chance.random() * 5
                await self._stream(watcher, patience_s)
            except DeadlineExceededError:
                self._history.add(Fault(self._universe.now_s, "watcher left and came back", str(watcher.number)))
            except ToranaError as error:
                self._history.add(Told(self._universe.now_s, watcher.number, "watch", execution, error.reason))
                if error.reason not in UNKNOWN:
                    raise
                await asyncio.sleep(PAUSE_S)

    async def _stream(self, watcher: _Watcher, patience_s: float) -> None:
        open_ = True
        arrives_s = 0.0

        def send(batch: Batch) -> None:
            nonlocal arrives_s
            arrives_s = max(arrives_s, self._universe.now_s + self._chance.random() * 0.01)
            self._universe.later(arrives_s - self._universe.now_s, receive, batch)

        def receive(batch: Batch) -> None:
            if open_:
                self._receive(watcher, batch)

        try:
            await self._call(lambda p: p.follow(watcher.execution, watcher.cursor, watcher.where, send), patience_s)
            await asyncio.sleep(max(0.0, arrives_s - self._universe.now_s) + 0.001)
        finally:
            open_ = False

    def _receive(self, watcher: _Watcher, batch: Batch) -> None:
        seen = Seen(
            self._universe.now_s,
            watcher.number,
            watcher.execution,
            watcher.where,
            batch.after_sequence,
            batch.through_sequence,
            batch.events,
        )
        self._history.add(seen)
        watcher.cursor = batch.through_sequence
        watcher.ended = batch.terminal

    # --- calls --------------------------------------------------------------------------------------------------

    async def _call(self, method: Method, deadline_s: float = DEADLINE_S) -> Any:
        """Raises what the server raises, UnavailableError where none is, DeadlineExceededError."""
        server = self._chance.choice(self._servers)
        await asyncio.sleep(self._chance.random() * 0.01)
        process: Process | None = server.process
        if process is None or not process.ready:
            await asyncio.sleep(PAUSE_S)
            raise UnavailableError("nobody listens there")
        future = self.machine.create_future()
        cancel = process.serve(method, future)
        try:
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError:
            cancel()
            raise DeadlineExceededError("it took too long") from None
        except asyncio.CancelledError:
            cancel()
            raise


class _Watcher:
    def __init__(self, number: int, execution: str, where: EventFilter) -> None:
        self.number = number
        self.execution = execution
        self.where = where
        self.cursor = 0
        self.ended = False
