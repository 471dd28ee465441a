"""The address of a PostgreSQL that has the journal, and the password that may have been written into it. Pure."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from torana_server.core.errors import Violation
from torana_server.settings.sources import Gathered

SCHEMES: Final = ("postgresql://", "postgres://")
JOURNAL: Final = "journal"
PASSWORD: Final = "journal_password"  # noqa: S105 — the name of a setting
_HOSTS: Final = re.compile(r"(([^:,\[\]]*|\[[0-9a-fA-F:.%]+\])(:\d*)?(,|$))*")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def is_address(journal: object) -> bool:
    return isinstance(journal, str) and journal.startswith(SCHEMES)


def has_password(journal: object) -> bool:
    return is_address(journal) and password_apart(str(journal))[1] is not None


def password_apart(address: str) -> tuple[str, str | None]:
    """The address without its password, and the password as it was meant."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address, None  # which the rule for addresses refuses
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    asked = [value for key, value in query if key == "password"]
    rest = [(key, value) for key, value in query if key != "password"]
    bare = SplitResult(parts.scheme, f"{name}{at}{hosts}", parts.path, urlencode(rest, safe="/"), parts.fragment)
    if not colon and not asked:
        return address, None
    return urlunsplit(bare), unquote(password) if colon else asked[-1]


def with_password_apart(gathered: Gathered) -> Gathered:
    """So that the setting `journal` can be shown: a password in the address becomes the setting `journal_password`."""
    journal = gathered.values.get(JOURNAL)
    if not has_password(journal):
        return gathered
    address, password = password_apart(str(journal))
    values: dict[str, Any] = {**gathered.values, JOURNAL: address}
    if PASSWORD in values:
        problem = Violation(
            gathered.origins[JOURNAL].name, f"holds a password, and {PASSWORD} is set; give one of them"
        )
        return dataclasses.replace(gathered, values=values, violations=(*gathered.violations, problem))
    origins = {**gathered.origins, PASSWORD: gathered.origins[JOURNAL]}
    return dataclasses.replace(gathered, values=values | {PASSWORD: password}, origins=origins)


def checked(journal: object) -> object:
    """Raises ValueError for what is no journal."""
    if journal in ("sqlite", "memory"):
        return journal
    if not is_address(journal):
        raise ValueError("write sqlite, memory or an address such as postgresql://torana@db.example.com:5432/torana")
    problem = _problem(str(journal))
    if problem:
        raise ValueError(f"{problem}; write postgresql://USER@HOST:5432/DATABASE")
    return journal


def _problem(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return "is no valid address"
    hosts = parts.netloc.rpartition("@")[2]
    if parts.fragment or "@" in parts.path + parts.query or not _HOSTS.fullmatch(hosts):
        return "is no valid address, or has a password whose / ? # [ ] are not written as %2F %3F %23 %5B %5D"
    if not parts.path.strip("/"):
        return "names no database"
    if any(key == "sslpassword" for key, _ in parse_qsl(parts.query)):
        return "holds an sslpassword, for which there is no place; use a key file without one"
    return ""


def checked_schema(name: str) -> str:
    """Raises ValueError for what would have to be quoted."""
    if _SCHEMA.fullmatch(name):
        return name
    raise ValueError("write a name of small letters, digits and _ that does not begin with a digit, up to 63 of them")
