"""Logs: structured lines on standard error, for people on a terminal and as JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(level: str, log_format: Literal["auto", "json", "console"], redact: Callable[[str], str]) -> None:
    """Sends every log line of the process to standard error. Secrets in use are redacted from all of them."""
    pretty = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_chain(redact),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderer(pretty)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _chain(redact: Callable[[str], str]) -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_extra,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redacting(redact),
    ]


def _renderer(pretty: bool) -> list[Processor]:
    if pretty:
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [structlog.processors.JSONRenderer(ensure_ascii=False)]


def _add_extra(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """The fields given as `extra=`."""
    record = event.get("_record")
    if record is not None:
        event.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
    return event


def _redacting(redact: Callable[[str], str]) -> Processor:
    def process(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = one_line(redact(value)) if key != "exception" else redact(value)
        return event

    return process


def one_line(text: str) -> str:
    """Control characters escaped, so that nothing a caller sends can forge a line or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
