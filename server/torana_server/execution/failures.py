"""From an exception to the error an execution keeps."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable

from torana_server.core.errors import Reason, StepError, ToranaError
from torana_server.execution.events import ExecutionError

MESSAGE_CHARS_MAX = 8_000
TRACEBACK_CHARS_MAX = 16_000
CAUSES_MAX = 5

_NOT_THE_WORKFLOWS = (
    os.path.dirname(os.path.dirname(__file__)),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
)


def describe(error: BaseException, step: str, attempt: int, redact: Callable[[str], str]) -> ExecutionError:
    """The error as it is journaled: redacted, bounded, and with lines of the workflow's own source only."""
    return _describe(error, step, attempt, redact, CAUSES_MAX)


def _describe(
    error: BaseException, step: str, attempt: int, redact: Callable[[str], str], causes: int
) -> ExecutionError:
    known = error if isinstance(error, ToranaError) else None
    name = str(known.reason) if known else type(error).__name__
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ExecutionError(
        type=name,
        reason=str(known.reason) if known else Reason.STEP_FAILED,
        message=_clip(redact(str(error) or name), MESSAGE_CHARS_MAX),
        step=step,
        attempt=attempt,
        retryable=_retryable(error),
        traceback=_clip(redact(_own_lines(error)), TRACEBACK_CHARS_MAX),
        metadata={key: redact(value) for key, value in known.metadata.items()} if known else {},
        cause=_describe(cause, step, attempt, redact, causes - 1) if cause is not None and causes else None,
    )


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


def _clip(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1] + "…"
