"""Page tokens and cursors: opaque to callers, checked when they come back.

Format: URL-safe base64 without padding of

    byte 0         version, 1
    bytes 1 to 12  the first 12 bytes of SHA-256 over tenant, query and position, each preceded by its length
    bytes 13 on    the position, UTF-8

A token holds a position and gives no right to anything: whose rows a query reads is decided by who asks. The digest
finds tokens that were cut, edited, or made for another query, whose positions would mean something else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from torana_server.core.errors import InvalidRequestError, Reason, Violation

Row = TypeVar("Row")
Item = TypeVar("Item", bound=Message)

_VERSION = b"\x01"
_DIGEST_BYTES = 12


@dataclass(frozen=True, slots=True)
class Query:
    """What a token belongs to: a method and everything in the request that decides which rows there are."""

    tenant: str
    method: str
    parameters: tuple[str, ...] = ()

    def token(self, position: str) -> str:
        content = _VERSION + self._digest(position) + position.encode()
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    def position(self, token: str, field: str = "page_token") -> str:
        """Raises InvalidRequestError (INVALID_PAGE_TOKEN) for a token that `token` did not make for this query."""
        try:
            content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            position = content[1 + _DIGEST_BYTES :].decode()
        except (binascii.Error, ValueError):
            content, position = b"", ""
        if content != _VERSION + self._digest(position) + position.encode():
            raise InvalidRequestError(
                f"the {field} is not one this server gave for this query; start again without it",
                reason=Reason.INVALID_PAGE_TOKEN,
                violations=[Violation(field, "send it back as it came, with the same filter")],
            )
        return position

    def _digest(self, position: str) -> bytes:
        digest = hashlib.sha256()
        for part in (self.tenant, self.method, *self.parameters, position):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(4) + encoded)
        return digest.digest()[:_DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    items: list[Item]
    next_token: str


def page_of(
    rows: Iterable[Row],
    *,
    query: Query,
    size: int,
    bytes_max: int,
    item: Callable[[Row], Item],
    position: Callable[[Row], str],
) -> Page[Item]:
    """The first `size` rows as messages, fewer when they would take more than `bytes_max`, but at least one.

    `rows` may go on after the page; then it has a token for the next one.
    """
    items: list[Item] = []
    taken = 0
    last = ""
    for row in rows:
        message = item(row)
        taken += message.ByteSize() + 8
        if len(items) == size or (items and taken > bytes_max):
            return Page(items, query.token(last))
        items.append(message)
        last = position(row)
    return Page(items, "")


def names_after(names: Iterable[str], after: str) -> Sequence[str]:
    """Sorted names behind `after`."""
    return sorted(name for name in names if name > after)
