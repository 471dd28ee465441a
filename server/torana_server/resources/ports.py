"""What resources need from outside: credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torana_server.access import Principal


class SecretValue(Protocol):
    """A secret in memory. Its repr and str show nothing."""

    def reveal(self) -> Mapping[str, Any]:
        """The JSON object as it was stored."""


class SecretReader(Protocol):
    """Reads secrets of the principal's tenant. Both methods are cheap when called often: the reader caches.

    An absent, deleted or expired secret raises SecretNotFoundError; a store that cannot answer, UnavailableError.
    """

    async def read(self, principal: Principal, name: str, *, purpose: str) -> tuple[SecretValue, int]:
        """The latest value and its version. `purpose` goes into the audit, such as an execution and a resource."""

    async def current_version(self, principal: Principal, name: str) -> int:
        """The latest version, from 1; grows with every change of the secret, even if the name was deleted between."""
