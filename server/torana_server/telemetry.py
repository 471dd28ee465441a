"""Logs of a server process: structured lines on standard error, for people on a terminal and as JSON elsewhere.

A program that embeds Torana keeps its own logging: only what owns the process calls `configure_logging`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from torana_server.core.lines import one_line
from torana_server.core.logs import LogFilter, extra_fields

__all__ = ["LineFormatter", "configure_logging", "one_line"]

LogFormat = Literal["auto", "json", "console"]
Write = Callable[[Mapping[str, object]], str]


def configure_logging(level: str, log_format: LogFormat, *, replace: bool = True) -> None:
    """Sends every log line of the process to standard error, redacted and with the ids in effect.

    With `replace=False` a program that has set up its logging keeps it.
    """
    root = logging.getLogger()
    if root.handlers and not replace:
        return
    pretty = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(LogFilter())
    handler.setFormatter(LineFormatter(_pretty(colors=sys.stderr.isatty()) if pretty else _json))
    root.handlers[:] = [handler]
    root.setLevel(level)


class LineFormatter(logging.Formatter):
    """Records that went through LogFilter, as `write` has them."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _rfc3339(record.created),
            "level": one_line(record.levelname.lower()),
            "logger": record.name,
            "message": record.getMessage(),
            **extra_fields(record),
        }
        if record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = record.stack_info
        return self._write(fields)


def _json(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, ensure_ascii=False)


def _pretty(*, colors: bool) -> Write:
    render = structlog.dev.ConsoleRenderer(colors=colors, event_key="message", timestamp_key="time")
    return lambda fields: str(render(None, "", dict(fields)))


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
