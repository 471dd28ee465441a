"""A server for tests: everything in memory, nothing of the process changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torana_server.access import Principal
from torana_server.app import Application, Parts
from torana_server.execution import Journal, ResourceBinder
from torana_server.resources import Binding, SharedName
from torana_server.settings import Settings
from torana_server.steps import LoopWatchdog
from torana_server.testing.disk import MemoryDisk
from torana_server.testing.virtual_time import LoopClock, guest_of_time
from torana_server.vault import Keyring, SecretStore


class _NoWatchdog(LoopWatchdog):
    """Real time says nothing about a loop whose time may be virtual."""

    def start(self) -> None:
        """Watches nothing."""


class MemoryApplication(Application):
    """`fakes` are the names whose references, whatever they say, stand for the operator's object of that name."""

    def __init__(self, settings: Settings, parts: Parts, disk: MemoryDisk) -> None:
        self._disk = disk
        self._loop_clock = LoopClock()
        self._open = ExitStack()
        self.fakes: set[str] = set()
        super().__init__(settings, parts, clock=self._loop_clock)
        self.watchdog = _NoWatchdog()

    def bind(
        self,
        principal: Principal,
        requested: Mapping[str, Binding],
        required: Sequence[str],
        *,
        share_inline: bool = False,
    ) -> dict[str, Binding]:
        """As `Resources.bind`, but fakes come first."""
        meant = {name: SharedName(name) if name in self.fakes else binding for name, binding in requested.items()}
        return self.resources.bind(principal, meant, required, share_inline=share_inline)

    async def open(self) -> None:
        self._loop_clock.attach()
        self._open.enter_context(guest_of_time(self))
        try:
            with quiet():
                await self._open_parts()
        except BaseException:
            await self.close()
            raise

    async def close(self, grace_s: float | None = None) -> None:
        try:
            await super().close(grace_s)
        finally:
            self._threads.close()
            self._open.close()

    async def crash(self) -> None:
        """The server is gone: it writes nothing more, and its steps are cancelled."""
        self._disk.journal.lose_server()
        with quiet():
            await self.close(0)

    # what time has to know

    def calls_in_threads(self) -> int:
        stats = self._threads.stats()
        return stats.busy + stats.waiting - stats.abandoned

    def has_work(self) -> bool:
        return self._disk.journal.unclaimed

    # parts

    def _journal(self) -> Journal:
        return self._disk.journal

    def _binder(self) -> ResourceBinder:
        return self

    async def _vault(self) -> tuple[SecretStore, Keyring]:
        return self._disk.secrets, self._disk.keyring


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that a test expects: that memory forgets, that a lost server loses."""
    logger = logging.getLogger("torana")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
