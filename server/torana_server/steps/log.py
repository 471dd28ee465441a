"""The logger of a step: what it says goes to the execution's events and to the server's log."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torana_server.core import logs

_server_log = logs.logger("steps")
# Control characters, line separators, bidirectional overrides and lone surrogates: what could forge or garble a line.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """`text` with line breaks and control characters written as escapes. Joiners of scripts and emoji stay."""
    return text if text.isprintable() else _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "surrogatepass").decode("ascii")


class StepLogger:
    """Takes what a `logging.Logger` takes. Lines at or above `level` become events; none of them waits.

    `event` is given the level, the line and what came as `extra`. `place` are the ids that each line of the server's
    log carries, also one from a thread that knows no context.
    """

    __slots__ = ("_event", "_level", "_place")

    def __init__(
        self,
        event: Callable[[int, str, Mapping[str, object] | None], None],
        level: int,
        place: Mapping[str, object],
    ) -> None:
        self._event = event
        self._level = level
        self._place = place

    # The logging module's own camelCase, so that code written for it runs.
    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 — logging's name
        return level >= self._level or _server_log.isEnabledFor(level)

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        exc_info: Any = None,
        extra: Mapping[str, object] | None = None,
        **_: Any,
    ) -> None:
        if not self.isEnabledFor(level):
            return
        text = one_line(_formatted(msg, args) + _named(exc_info))
        if level >= self._level:
            self._event(level, text, extra)
        if _server_log.isEnabledFor(level):
            fields = {**logs.as_extra(extra or {}), **self._place}
            _server_log.log(level, "%s", text, exc_info=exc_info, extra=fields, stacklevel=3)

    def debug(self, msg: object, *args: object, **options: Any) -> None:
        self.log(logging.DEBUG, msg, *args, **options)

    def info(self, msg: object, *args: object, **options: Any) -> None:
        self.log(logging.INFO, msg, *args, **options)

    def warning(self, msg: object, *args: object, **options: Any) -> None:
        self.log(logging.WARNING, msg, *args, **options)

    warn = warning

    def error(self, msg: object, *args: object, **options: Any) -> None:
        self.log(logging.ERROR, msg, *args, **options)

    def critical(self, msg: object, *args: object, **options: Any) -> None:
        self.log(logging.CRITICAL, msg, *args, **options)

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        self.log(logging.ERROR, msg, *args, exc_info=exc_info, **options)


def _formatted(msg: object, args: tuple[object, ...]) -> str:
    """As logging does it, but a mistake in the format keeps the arguments instead of losing the line."""
    text = str(msg)
    if not args:
        return text
    values = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
    try:
        return text % values
    except (TypeError, ValueError, KeyError):
        return f"{text} {args!r}"


def _named(exc_info: Any) -> str:
    """What failed, for the event; the server's log has the stack as well."""
    if exc_info is True:
        error = sys.exception()
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = exc_info
    return f": {type(error).__name__}: {error}" if isinstance(error, BaseException) else ""
