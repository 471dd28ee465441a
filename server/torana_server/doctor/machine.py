"""Python, the libraries, limits of the process and variables of the environment."""

from __future__ import annotations

import platform
import resource
from collections.abc import Iterator
from importlib.metadata import version

from torana_server.adapters.sqlite.database import check_version
from torana_server.adapters.sqlite.inspection import library_version
from torana_server.core.errors import UnavailableError
from torana_server.doctor.findings import Finding, ok, problem, warning
from torana_server.settings import Settings

FILES_MIN = 1_024


def examine() -> Iterator[Finding]:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torana-server", "grpcio", "uvloop"))
    yield ok("versions", f"Python {platform.python_version()}, {libraries}")
    yield sqlite_library(library_version())
    limit = open_files_limit()
    if limit is not None:
        yield open_files(limit)


def sqlite_library(found: str) -> Finding:
    try:
        check_version(found)
    except UnavailableError as error:
        return problem("SQLite library", error.message, "pip install --upgrade apsw")
    return ok("SQLite library", f"SQLite {found}")


def open_files_limit() -> int | None:
    """What this process may have open at once; None where that is not limited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def open_files(limit: int) -> Finding:
    found = f"at most {limit:,} open files and connections"
    if limit < FILES_MIN:
        return warning("open files", found, "allow more (`ulimit -n 65536`, or LimitNOFILE= of a systemd unit)")
    return ok("open files", found)


def template_variables(settings: Settings) -> Iterator[Finding]:
    missing = sorted(set(settings.template_env) - settings.template_environment().keys())
    if missing:
        found = f"template_env names {', '.join(missing)}, which this environment does not have"
        yield warning("template_env", found, "set them for the server, or steps that use them fail with TEMPLATE_ERROR")
    elif settings.template_env:
        yield ok("template_env", f"{len(settings.template_env)} variables, all set")
