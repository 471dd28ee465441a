"""The PostgreSQL that has journal and vault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime

from torana_server.adapters.postgres.connection import Place
from torana_server.adapters.postgres.inspection import DatabaseReport, Kept, inspect_database
from torana_server.adapters.postgres.opening import VERSION_MIN
from torana_server.core.errors import UnavailableError, VaultError
from torana_server.doctor import vault
from torana_server.doctor.findings import Finding, counted, ok, problem, warning
from torana_server.settings import Settings
from torana_server.vault import Keyring

SKEW_S_MAX = 2.0
CONNECTIONS_BESIDE_READERS = 7


def examine(settings: Settings, now: Callable[[], datetime]) -> Iterator[Finding]:
    password = settings.journal_password.get_secret_value() if settings.journal_password else None
    place = Place(settings.journal, settings.journal_schema, password)
    try:
        report = asyncio.run(inspect_database(place, now))
    except UnavailableError as error:
        yield problem("database", error.message, "docs/postgresql.md says how to set it up")
        yield from key(settings, None)
        return
    yield release(report, str(place))
    yield durability(report)
    yield connections(report, settings.journal_readers_max + CONNECTIONS_BESIDE_READERS)
    yield skew((report.now - report.asked).total_seconds())
    yield tables(report, settings.journal_schema)
    if report.kept is not None:
        yield unfinished(report.kept)
    yield from key(settings, report.kept)


def release(report: DatabaseReport, place: str) -> Finding:
    found = f"PostgreSQL {report.release} at {place}"
    if report.release_major < VERSION_MIN:
        return problem("database", f"{found} is too old", f"use PostgreSQL {VERSION_MIN} or later")
    if report.standby:
        return problem("database", f"{found} is a standby and only reads", "give the address of the primary")
    if report.pooled:
        advice = "a direct address is faster, and servers hear of each other at once"
        return ok("database", f"{found}, through a proxy that pools transactions", advice)
    return ok("database", found)


def durability(report: DatabaseReport) -> Finding:
    if not report.fsync:
        found = "fsync is off: a crash of its machine loses what was acknowledged, or all of it"
        return problem("durability", found, "set fsync = on in postgresql.conf")
    if not report.full_page_writes:
        found = "full_page_writes is off: a crash of its machine can damage tables"
        return warning("durability", found, "set full_page_writes = on, unless the file system never tears a page")
    if report.synchronous_standbys:
        return ok("durability", f"fsync is on; synchronous standbys: {report.synchronous_standbys}")
    advice = "a failover to a standby may lose the newest commits; with synchronous standbys it loses none"
    return ok("durability", "fsync is on; no synchronous standbys", advice)


def connections(report: DatabaseReport, needed: int) -> Finding:
    left = max(report.connections_left, 0)
    found = f"{counted(left, 'connection')} left; a server takes up to {needed}"
    if left < needed:
        return warning("connections", found, "raise max_connections of PostgreSQL, or lower journal_readers_max")
    return ok("connections", found)


def skew(ahead_s: float) -> Finding:
    if abs(ahead_s) > SKEW_S_MAX:
        found = f"the database's clock is {ahead_s:+,.1f} s from this machine's"
        return warning("database clock", found, "set both (chrony, ntpd): deadlines are times of the servers")
    return ok("database clock", f"{abs(ahead_s) * 1000:.0f} ms from this machine's")


def tables(report: DatabaseReport, schema: str) -> Finding:
    if report.version == 0:
        if report.may_begin:
            return ok("journal", f"no tables in schema {schema} yet; the first start makes them")
        found = f"there is no schema {schema}, and this user may not make it"
        return problem("journal", found, f"CREATE SCHEMA {schema} AUTHORIZATION the user of the servers")
    if report.version > report.known_version:
        found = f"its tables have version {report.version}; this release knows up to {report.known_version}"
        return problem("journal", found, "start a server at least as new as the one that wrote it")
    if report.kept is None:
        return ok("journal", f"tables of version {report.version}; the next start brings them up to date")
    about = f"about {counted(report.kept.executions, 'execution')}"
    return ok("journal", f"{about}, tables of version {report.version} in schema {schema}")


def unfinished(kept: Kept) -> Finding:
    alive = f"{counted(kept.servers, 'server')} at work"
    waiting = f"{counted(kept.unfinished, 'execution')} running or waiting"
    if kept.unfinished and not kept.servers:
        return ok("servers", f"{alive}; {counted(kept.unfinished, 'execution')} would go on when one starts")
    return ok("servers", f"{alive}, {waiting}")


def key(settings: Settings, kept: Kept | None) -> Iterator[Finding]:
    try:
        keyring = vault.given_keyring(settings)
    except VaultError as error:
        yield problem("vault key", error.message, "see docs/secrets.md for where keys come from")
        return
    if keyring is None:
        found = "none is given, and servers that share a vault need the same one"
        yield problem("vault key", found, "set vault_keys or vault_keys_file; docs/secrets.md says how to make a key")
        return
    yield ok("vault key", _described(settings, keyring), vault.BACK_UP)
    if kept is not None:
        yield vault.fits(keyring, kept)


def _described(settings: Settings, keyring: Keyring) -> str:
    place = "vault_keys" if settings.vault_keys is not None else str(settings.vault_keys_file)
    return f"{keyring.primary.key_id} in {place}"
