"""Whose work a log line is about, and what every line goes through.

Torana's loggers are `torana.<area>`, made by `logger`. Their records carry the ids that are in effect as attributes
and are redacted and escaped before any handler sees them, whoever installed it. The same filter on a handler does so
for the lines of others.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import traceback
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Protocol

from torana_server.core.lines import LINE_CHARS_MAX, clean, described, excerpt, one_line, shortened

EXCEPTION_LINES_MAX = 200
KEY_CHARS_MAX = 100
FIELD_CHARS_MAX = 8_000

RESERVED: Final = frozenset({"time", "level", "logger", "message", "exception", "stack"})
"""What a line says by itself: a field of such a name is written as `extra_<name>`."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_DONE: Final = object()
_DONE_KEY: Final = "_torana"
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LogPlace(Protocol):
    """Something that log lines are written in the course of: a call, an execution, an attempt."""

    def log_fields(self) -> Mapping[str, object]:
        """Asked only when a line is written. Names of fields to texts and numbers."""


class SupportsRedact(Protocol):
    def redact(self, text: str) -> str: ...


_place: ContextVar[LogPlace | None] = ContextVar("torana_log_place", default=None)
_redactors: tuple[weakref.ref[SupportsRedact], ...] = ()


def enter(place: LogPlace) -> None:
    """From now on lines of this task, and of the tasks and threads it starts, carry the fields of `place`."""
    _place.set(place)


class Errand:
    """The fields of whoever asked for work that runs in a context of its own, for as long as the work lasts.

    Drivers keep the context their connections were opened in. After `end` that context says nothing any more.
    """

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: Mapping[str, object] = fields_in_effect()

    def log_fields(self) -> Mapping[str, object]:
        return self._fields

    def context(self) -> contextvars.Context:
        """An empty context but for these fields."""
        context = contextvars.Context()
        context.run(_place.set, self)
        return context

    def end(self) -> None:
        self._fields = {}


def fields_in_effect() -> Mapping[str, object]:
    """The ids of the call, execution or attempt in whose course this is asked, and those of the current trace."""
    place = _place.get()
    fields = {} if place is None else dict(place.log_fields())
    return {**fields, **_current_span()}


def _current_span() -> Mapping[str, object]:
    """Asks OpenTelemetry only where something has loaded it: elsewhere no span can be current."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span().get_span_context()
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}


def redact_with(redactor: SupportsRedact) -> None:
    """Every line of Torana's loggers is redacted by `redactor`, for as long as it exists."""
    global _redactors
    known = tuple(ref for ref in _redactors if ref() is not None)
    if not any(ref() is redactor for ref in known):
        known = (*known, weakref.ref(redactor))
    _redactors = known


def redacted(text: str) -> str:
    for ref in _redactors:
        redactor = ref()
        if redactor is not None:
            text = redactor.redact(text)
    return text


class LogFilter(logging.Filter):
    """Adds the ids in effect to each record and makes all of it safe to write: redacted, bounded, on one line.

    A record's `exc_info` becomes its `exc_text`, indented lines of redacted text. Lets every record through.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.__dict__.get(_DONE_KEY) is not _DONE:
            _complete(record)
            record.__dict__[_DONE_KEY] = _DONE
        return True


_filter = LogFilter()


def logger(area: str) -> logging.Logger:
    """`torana.<area>`."""
    found = logging.getLogger(f"torana.{area}")
    found.addFilter(_filter)
    return found


def as_extra(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields with any names as `logging` takes them: those it keeps for itself become `extra_<name>`."""
    return {f"extra_{key}" if key in _STANDARD else key: value for key, value in fields.items()}


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record carries beyond the standard attributes."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and key != _DONE_KEY}


def exception_text(error: BaseException, trace: TracebackType | None) -> str:
    """The stack and the message, each line indented, so that none of them looks like a line of its own."""
    text = "".join(traceback.format_exception(type(error), error, trace))
    return _indented(text)


def _complete(record: logging.LogRecord) -> None:
    attributes = vars(record)
    extras = extra_fields(record)
    ids = fields_in_effect()
    for key in extras:
        del attributes[key]
    for key, value in extras.items():
        if key not in ids or ids[key] != value:
            attributes[_field_name(key, ids)] = _field(value)
    attributes.update({key: _field(value) for key, value in ids.items()})
    record.msg, record.args = clean(_message(record), redacted), ()
    record.name = record.name if record.name.isprintable() else clean(record.name, redacted)
    if record.exc_info:
        _write_exception(record, record.exc_info)
    elif record.exc_text:
        record.exc_text = _indented(record.exc_text)
    if record.stack_info:
        record.stack_info = _indented(record.stack_info)


def _write_exception(record: logging.LogRecord, exc_info: _ExcInfo) -> None:
    error = exc_info[1]
    if error is not None:
        record.exc_text = exception_text(error, exc_info[2])
        vars(record)["error_type"] = clean(type(error).__name__, redacted, KEY_CHARS_MAX)
    record.exc_info = None


def _message(record: logging.LogRecord) -> str:
    """A mistake in the format keeps the arguments instead of losing the line."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 — whatever `%` and the arguments' own methods raise
        message = record.msg if isinstance(record.msg, str) else described(record.msg)
        return f"{message} {described(record.args)}"


def _field_name(key: object, ids: Mapping[str, object]) -> str:
    """Nobody passes off a line as that of another execution: ids in effect stand."""
    name = clean(key if isinstance(key, str) else described(key), redacted, KEY_CHARS_MAX)
    return f"extra_{name}" if name in RESERVED or name in ids or name in _STANDARD else name


def _field(value: object) -> object:
    if value is None or type(value) is bool:
        return value
    if type(value) is str:
        return clean(value, redacted)
    try:
        return excerpt(value, redacted, chars_max=FIELD_CHARS_MAX)
    except Exception:  # noqa: BLE001 — a mapping of somebody's own; a line must not fail for what it shows
        return f"<{one_line(type(value).__name__)}>"


def _indented(text: str) -> str:
    lines = shortened(text, redacted, EXCEPTION_LINES_MAX * LINE_CHARS_MAX).rstrip("\n").split("\n")
    if len(lines) > EXCEPTION_LINES_MAX:
        cut = len(lines) - EXCEPTION_LINES_MAX
        lines = [*lines[: EXCEPTION_LINES_MAX // 2], f"… ({cut} more lines)", *lines[-(EXCEPTION_LINES_MAX // 2) :]]
    return "\n".join("  " + one_line(line[:LINE_CHARS_MAX]) for line in lines)
