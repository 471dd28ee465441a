"""The version of the journal's tables, and how an older one becomes the current."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Final

import apsw

from torana_server.core.errors import UnavailableError

VERSION: Final = 2
APPLICATION_ID: Final = 0x746F726A
"""Bytes 68 to 71 of the file: "torj"."""
MIGRATIONS: Final[Mapping[int, str]] = {
    2: "CREATE INDEX executions_retries ON executions (tenant, retry_of, id) WHERE retry_of <> ''",
}
"""Version N to the SQL that makes it of version N - 1. `schema.sql` is always the newest."""


def migrate(connection: apsw.Connection) -> None:
    """Brings the tables to VERSION in one transaction, from nothing or from an older version.

    Raises UnavailableError for a file that is not a journal, or one that a newer server wrote.
    """
    version = _version(connection)
    with connection:
        if version == 0:
            connection.execute(resources.files(__package__).joinpath("schema.sql").read_text("utf-8"))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        for step in range(version + 1, VERSION + 1) if version else ():
            connection.execute(f"{MIGRATIONS[step]}; PRAGMA user_version = {step}")


def _version(connection: apsw.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").get)
    application = int(connection.execute("PRAGMA application_id").get)
    tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").get)
    if application != APPLICATION_ID and (version or tables):
        raise UnavailableError("the journal file belongs to another program; give Torana a data folder of its own")
    if version > VERSION:
        raise UnavailableError(
            f"the journal has version {version}, this server knows up to {VERSION}; start a server at least as new"
            " as the one that wrote it"
        )
    return version
