"""All checks in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from torana_server.core.errors import InvalidRequestError
from torana_server.doctor import clock, database, folder, journal, machine, network, vault
from torana_server.doctor.findings import Finding, ok, problem
from torana_server.settings import LoadedSettings


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`server_at` names the Torana server at an address, or is None when nothing there answers as one."""

    server_at: Callable[[str], str | None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def examine(load: Callable[[], LoadedSettings], around: Surroundings) -> Iterator[Finding]:
    """Each finding as soon as it is known. `load` raises InvalidRequestError for settings that cannot be used."""
    yield from machine.examine()
    try:
        loaded = load()
    except InvalidRequestError as error:
        for violation in error.violations:
            yield problem("settings", str(violation), "correct it; docs/configuration.md lists every setting")
        return
    yield ok("settings", f"read from {loaded.file}" if loaded.file else "valid; no file of settings is read")
    yield from _of(loaded, around)


def _of(loaded: LoadedSettings, around: Surroundings) -> Iterator[Finding]:
    settings = loaded.settings
    yield from machine.template_variables(settings)
    closed = folder.is_closed(settings.data_dir)
    user = None if closed else folder.user_of(settings.data_dir)
    if settings.journal == "sqlite":
        yield from folder.examine(settings, user)
    if settings.journal == "sqlite" and not closed:
        yield from journal.examine(settings.data_dir, user is not None, around.now())
        yield from vault.examine(settings, user is not None)
    if settings.on_postgresql:
        yield from database.examine(settings, around.now)
    yield from network.examine(settings, settings.on_postgresql or user is not None, around)
    yield from clock.examine(None if closed else settings.data_dir, around.now())
