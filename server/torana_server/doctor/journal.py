"""The journal's file, read beside the server that may have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from torana_server.adapters.sqlite.folder import JOURNAL_FILE
from torana_server.adapters.sqlite.inspection import JournalReport, inspect_journal
from torana_server.adapters.wire import WireCodec
from torana_server.core.clock import to_datetime
from torana_server.core.errors import ToranaError
from torana_server.doctor.findings import Finding, counted, ok, problem, warning
from torana_server.doctor.folder import OWNER

AHEAD_MAX = timedelta(seconds=2)


def examine(data_dir: Path, in_use: bool, now: datetime) -> Iterator[Finding]:
    path = data_dir / JOURNAL_FILE
    if not path.exists():
        yield ok("journal", "none yet; the first start makes it")
        return
    if not os.access(path, os.R_OK):
        yield problem("journal", f"{path} cannot be read by this user", OWNER)
        return
    try:
        report = inspect_journal(path, in_use=in_use)
    except ToranaError as error:
        yield problem("journal", error.message, "restore the data folder from a backup, or start with another one")
        return
    yield integrity(report)
    yield unfinished(report, in_use)
    if report.newest_event:
        yield newest(to_datetime(WireCodec().decode(report.newest_event).time), now)


def integrity(report: JournalReport) -> Finding:
    if report.version > report.known_version:
        found = f"its tables have version {report.version}; this release knows up to {report.known_version}"
        return problem("journal", found, "start a server at least as new as the one that wrote it")
    if report.damage:
        found = f"the file is damaged: {report.damage}"
        return problem("journal", found, "stop the server, keep a copy of the folder, and restore it from a backup")
    older = "" if report.version == report.known_version else "; the next start brings its tables up to date"
    checked = "whole" if report.is_checked_whole else "whole as far as it was checked in the time for it"
    return ok(
        "journal", f"{counted(report.executions, 'execution')}, {checked}, tables of version {report.version}{older}"
    )


def unfinished(report: JournalReport, in_use: bool) -> Finding:
    if not report.unfinished or in_use:
        return ok("unfinished", f"{counted(report.unfinished, 'execution')} running or waiting")
    return ok("unfinished", f"{counted(report.unfinished, 'execution')} would go on when a server starts")


def newest(at: datetime, now: datetime) -> Finding:
    if at - now > AHEAD_MAX:
        found = f"the newest event is {(at - now).total_seconds():,.0f} s ahead of this machine's clock"
        return warning(
            "newest event", found, "set the clock (chrony, ntpd): times of events and time limits rely on it"
        )
    return ok("newest event", at.isoformat(timespec="seconds"))
