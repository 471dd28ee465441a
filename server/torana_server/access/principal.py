"""The caller of every RPC and every embedded call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """`tenant` is the boundary nothing crosses; `subject` names the caller within it, for audit."""

    tenant: str
    subject: str
    roles: frozenset[str] = frozenset()


LOCAL = Principal(tenant="local", subject="local", roles=frozenset({"admin"}))
"""The one principal of a server without authentication: whoever can reach it."""
