"""What became of the calls: counters, and a line of the log for each."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

import grpc

from torana_server.core import logs
from torana_server.rpc.calls import Call

logger = logs.logger("rpc")

_LEVELS: Final = {
    grpc.StatusCode.INTERNAL: logging.ERROR,
    grpc.StatusCode.UNKNOWN: logging.ERROR,
    grpc.StatusCode.DATA_LOSS: logging.ERROR,
    grpc.StatusCode.UNAVAILABLE: logging.WARNING,
    grpc.StatusCode.RESOURCE_EXHAUSTED: logging.WARNING,
}
_QUIET: Final = ("/grpc.health.", "/grpc.reflection.")


class Tally:
    """Counts since the server started. `idle` tells when no counted call is open."""

    def __init__(self, *, access_log: bool) -> None:
        self._access_log = access_log
        self._calls: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self, call: Call) -> None:
        self._calls[call.method] += 1
        if _is_counted_open(call):
            self._open += 1
            self._idle.clear()

    def end(self, call: Call, code: grpc.StatusCode, reason: str, duration_s: float) -> None:
        if code is not grpc.StatusCode.OK:
            self._failed[call.method] += 1
        if _is_counted_open(call):
            self._open -= 1
            if not self._open:
                self._idle.set()
        self._log(call, code, reason, duration_s)

    async def idle(self) -> None:
        """Returns when no call is open, but for health and reflection streams, which last as long as they like."""
        await self._idle.wait()

    def values(self) -> dict[str, int]:
        """`rpc_calls.SERVICE.METHOD` and `rpc_failed.SERVICE.METHOD` for methods that were called, their sums
        `rpc_calls` and `rpc_failed`, and `rpc_open` now."""
        values = {"rpc_calls": self._calls.total(), "rpc_failed": self._failed.total(), "rpc_open": self._open}
        values |= {f"rpc_calls.{_short(method)}": count for method, count in self._calls.items()}
        return values | {f"rpc_failed.{_short(method)}": count for method, count in self._failed.items()}

    def _log(self, call: Call, code: grpc.StatusCode, reason: str, duration_s: float) -> None:
        level = _LEVELS.get(code, logging.INFO)
        if call.method.startswith(_QUIET):
            level = min(level, logging.DEBUG)
        if (code is grpc.StatusCode.OK and not self._access_log) or not logger.isEnabledFor(level):
            return
        fields = {"code": code.name, "duration_ms": round(duration_s * 1_000, 3), "peer": call.peer}
        if reason:
            fields["reason"] = reason
        logger.log(level, "call %s: %s", _short(call.method), code.name, extra=fields)


def _is_counted_open(call: Call) -> bool:
    return not call.method.startswith(_QUIET)


def _short(method: str) -> str:
    """`/torana.v1.ExecutionService/Execute` as `ExecutionService.Execute`."""
    service, _, name = method.removeprefix("/").partition("/")
    return f"{service.rpartition('.')[2]}.{name}"
