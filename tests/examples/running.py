"""Examples as processes, in a folder that is the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from integration.cli.servers import ROOT, TIMEOUT_S, environment
from integration.conftest import PostgresDatabase, ValkeyAddress

EXAMPLES = ROOT / "examples"


def python(folder: Path, example: str, *arguments: str, **variables: str) -> str:
    """What the example printed. It must end well."""
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def database_variables(database: PostgresDatabase) -> dict[str, str]:
    return {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGDATABASE": database.database,
        "PGUSER": database.user,
        "PGPASSWORD": database.password,
    }


def cache_variables(cache: ValkeyAddress) -> dict[str, str]:
    return {"CACHE_PORT": str(cache.port), "CACHE_PASSWORD": cache.password}
