"""How a step ended, as far as data flow cares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torana_server.core.values import Payload, encode


class Outcome(NamedTuple):
    """A settled step: `output` of one that completed, `error` of one that failed for good with an error route.

    Both are None for a step that was skipped or cancelled. `route` is the one a switch took.
    """

    output: Payload | None
    route: str = ""
    error: Payload | None = None


def error_output(error_type: str, message: str, attempt: int, details: Mapping[str, object]) -> Payload:
    """What an error route hands on."""
    return encode({"type": error_type, "message": message, "attempt": attempt, "details": details})
