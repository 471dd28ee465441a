"""Connections to the database, and what its errors mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg

from torana_server.adapters.journal_rules import RETRY_AFTER_S
from torana_server.adapters.postgres.pooled import pooled_connection
from torana_server.core import logs
from torana_server.core.errors import ConflictError, Reason, StepError, ToranaError, UnavailableError

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 10.0
"""A database that says nothing for so long is taken for gone."""
DEFAULT_HOST: Final = "localhost"
LOST: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)
"""No answer: what the connection was doing may have happened or not."""
LOST_STATES: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
"""SQLSTATEs of a server that shuts down, starts or ended the session."""
OF_ONE_WRITE: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""Something in the values of one write; the other writes of its group are sound."""

_log = logs.logger("journal")


@dataclass(frozen=True, slots=True)
class Place:
    """Where journal and vault are: an address of libpq's form, a password unless PGPASSWORD or a file of passwords has
    it, and a schema there. `pooled` says that transactions of one connection may go to different sessions."""

    dsn: str = field(repr=False)
    schema: str
    password: str | None = field(default=None, repr=False)
    pooled: bool = False

    def __str__(self) -> str:
        """`host:port/database`, without what may be secret."""
        parts = urlsplit(self.dsn)
        hosts = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", [DEFAULT_HOST])[0]
        return f"{hosts}{parts.path}"

    def options(self, name: str = "torana journal") -> dict[str, Any]:
        """For asyncpg.connect. `name` is what PostgreSQL shows of the connection."""
        own: dict[str, Any] = {"server_settings": {"application_name": name, "timezone": "UTC", **self.settings()}}
        if self.pooled:
            own = {
                "server_settings": {"application_name": name, "timezone": "UTC"},
                "connection_class": pooled_connection(self.settings()),
                "statement_cache_size": 0,  # a name is of one session
            }
        return {
            "dsn": self.dsn,
            "password": self.password,
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": ANSWER_TIMEOUT_S,
            **own,
        }

    def pool_options(self, name: str = "torana journal") -> dict[str, Any]:
        """For asyncpg.create_pool."""
        return {**self.options(name), "reset": _leave_as_it_is}

    def settings(self) -> dict[str, str]:
        """What the statements of journal and vault rely on."""
        return {
            "search_path": f'"{self.schema}"',
            "synchronous_commit": "on",
            "jit": "off",  # compiling costs more than any of these statements
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }


async def _leave_as_it_is(connection: Any) -> None:
    """No statement here changes its session, so that a round trip to clean it is not needed."""


def is_lost(error: BaseException) -> bool:
    """Whether the database is not there, as against having refused something."""
    return isinstance(error, LOST) or (isinstance(error, asyncpg.PostgresError) and error.sqlstate in LOST_STATES)


def translated(error: Exception) -> ToranaError:
    """What a caller is told; PostgreSQL's own words go to the log."""
    if isinstance(error, ToranaError):
        return error
    if isinstance(error, asyncpg.UniqueViolationError):
        return ConflictError("an execution with this id, or an event with this sequence, exists already")
    if isinstance(error, (*OF_ONE_WRITE, asyncpg.InvalidTextRepresentationError)):
        _log.warning("PostgreSQL refused a value", exc_info=error)
        return StepError("a value cannot be stored in the journal", reason=Reason.VALUE_NOT_STORABLE)
    if is_lost(error):
        _log.warning("the journal's database does not answer: %s", type(error).__name__)
        return gone()
    if isinstance(error, asyncpg.DiskFullError):
        return UnavailableError("the disk of the journal's database is full", retry_after_s=RETRY_AFTER_S)
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return UnavailableError("the journal's database only reads, as a standby does", retry_after_s=RETRY_AFTER_S)
    _log.error("journal error", exc_info=error)
    return UnavailableError("the journal cannot be read or written; see the server's log", retry_after_s=RETRY_AFTER_S)


def gone() -> UnavailableError:
    return UnavailableError("the journal's database does not answer", retry_after_s=RETRY_AFTER_S)
