"""As `served.effects`, by a server that has lost one of the functions."""

from __future__ import annotations

from served.effects import register_all_but_optional
from torana_server import Gateway


def register(gateway: Gateway) -> None:
    register_all_but_optional(gateway)
