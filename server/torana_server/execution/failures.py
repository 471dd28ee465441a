"""From an exception to the error an execution keeps."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace

from torana_server.core.errors import Reason, StepError, ToranaError
from torana_server.execution.events import ExecutionError
from torana_server.execution.text import storable

MESSAGE_CHARS_MAX = 8_000
TRACEBACK_CHARS_MAX = 16_000
CAUSE_CHARS_MAX = 4_000
"""Of the message and of the traceback of each cause, so that the whole fits into one event."""
CAUSES_MAX = 5
TYPE_CHARS_MAX = 200
METADATA_MAX = 16
METADATA_CHARS_MAX = 200

_NOT_THE_WORKFLOWS = tuple(
    os.path.join(folder, "")
    for folder in (
        os.path.dirname(os.path.dirname(__file__)),
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    )
)


def describe(error: BaseException, step: str, attempt: int, redact: Callable[[str], str]) -> ExecutionError:
    """The error as it is journaled: redacted, bounded, and with lines of the workflow's own source only."""
    causes = [_one(cause, step, attempt, redact, CAUSE_CHARS_MAX, CAUSE_CHARS_MAX) for cause in _causes(error)]
    described = None
    for cause in reversed(causes):
        described = replace(cause, cause=described)
    return replace(_one(error, step, attempt, redact, MESSAGE_CHARS_MAX, TRACEBACK_CHARS_MAX), cause=described)


def _one(
    error: BaseException,
    step: str,
    attempt: int,
    redact: Callable[[str], str],
    message_chars_max: int,
    traceback_chars_max: int,
) -> ExecutionError:
    known = error if isinstance(error, ToranaError) else None
    name = str(known.reason) if known else storable(type(error).__name__, TYPE_CHARS_MAX)
    metadata = list(known.metadata.items())[:METADATA_MAX] if known else []
    return ExecutionError(
        type=name,
        reason=name if known else Reason.STEP_FAILED,
        message=storable(redact(_message(error) or name), message_chars_max),
        step=step,
        attempt=attempt,
        retryable=_retryable(error),
        traceback=storable(redact(_own_lines(error)), traceback_chars_max),
        metadata={
            storable(key, METADATA_CHARS_MAX): storable(redact(value), METADATA_CHARS_MAX) for key, value in metadata
        },
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What led to the error, nearest first. An error of Torana's own says what there is to say; what it was made of
    is text of drivers and of the server."""
    for _ in range(CAUSES_MAX):
        if isinstance(error, ToranaError):
            return
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
        if cause is None:
            return
        yield cause
        error = cause


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 — the step's own code; an error that cannot say what it is must still end the step
        return "the error has no message: its __str__ fails"


def _retryable(error: BaseException) -> bool:
    """Another attempt can help, except where the same inputs must fail the same way."""
    return error.retryable if isinstance(error, StepError) else True


def _own_lines(error: BaseException) -> str:
    """Frames of source steps and of the operator's functions, without folders."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(_NOT_THE_WORKFLOWS) or "<frozen" in frame.filename:
            continue
        lines.append(f'  File "{os.path.basename(frame.filename)}", line {frame.lineno}, in {frame.name}')
        if frame.line:
            lines.append(f"    {frame.line}")
    return "\n".join(lines)
