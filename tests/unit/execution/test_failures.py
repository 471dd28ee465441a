from __future__ import annotations

import json
import linecache
import re
from functools import partial

import pytest

from torana_server.adapters.wire import WireCodec
from torana_server.core.clock import Micros
from torana_server.core.errors import Reason, ResourceError, StepError
from torana_server.core.limits import EVENT_BYTES_MAX
from torana_server.execution.admission import Admission, AdmissionLimits, Place
from torana_server.execution.events import Event, ExecutionError, Failed
from torana_server.execution.failures import MESSAGE_CHARS_MAX, describe

SOURCE = "def inner():\n    raise ValueError('broken by hunter2')\n\ndef outer(call):\n    call(inner)\n"


def redact(text: str) -> str:
    return text.replace("hunter2", "***")


def described(error: BaseException) -> ExecutionError:
    return describe(error, "load", 2, redact)


def raised(call, *args: object) -> BaseException:
    try:
        call(*args)
    except BaseException as error:  # noqa: BLE001 — whatever it is, it is what the test looks at
        return error
    raise AssertionError("nothing was raised")


def test_an_exception_is_known_by_its_class_and_a_torana_error_by_its_reason() -> None:
    plain = described(KeyError("customers"))
    assert (plain.type, plain.reason, plain.message) == ("KeyError", Reason.STEP_FAILED, "'customers'")
    assert (plain.step, plain.attempt, plain.retryable) == ("load", 2, True)
    own = described(ResourceError("the pool is gone", metadata={"resource": "db hunter2"}))
    assert (own.type, own.reason) == (Reason.RESOURCE_UNAVAILABLE, Reason.RESOURCE_UNAVAILABLE)
    assert own.metadata == {"resource": "db ***"}


def test_step_errors_say_themselves_whether_another_attempt_can_help() -> None:
    assert described(StepError("too large")).retryable is False
    assert described(StepError("later", retryable=True)).retryable is True


def test_an_error_without_a_message_is_called_by_its_type() -> None:
    assert described(TimeoutError()).message == "TimeoutError"


def test_messages_and_tracebacks_are_redacted_before_they_are_cut() -> None:
    error = described(ValueError("x" * (MESSAGE_CHARS_MAX - 3) + "hunter2"))
    assert "hunt" not in error.message
    assert len(error.message) == MESSAGE_CHARS_MAX


def test_a_traceback_shows_lines_of_the_workflow_only() -> None:
    namespace: dict[str, object] = {}
    name = "/srv/workflows/load.py"
    linecache.cache[name] = (len(SOURCE), None, SOURCE.splitlines(keepends=True), name)
    exec(compile(SOURCE, name, "exec"), namespace)
    admission = Admission(AdmissionLimits())
    through_server = partial(admission.wait, "e", Place("acme", "etl"), has_seat=False)
    through_library = partial(json.dumps, object())
    try:
        error = described(
            raised(namespace["outer"], lambda inner: through_library(default=lambda _: through_server(inner)))
        )
    finally:
        del linecache.cache[name]
    assert set(re.findall(r'File "(.*?)"', error.traceback)) == {"load.py", "test_failures.py"}
    assert 'File "load.py", line 5, in outer' in error.traceback
    assert "in inner\n    raise ValueError('broken by ***')" in error.traceback


def test_causes_follow_as_python_tells_them_and_no_further_than_five() -> None:
    error: BaseException = ValueError("0")
    for number in range(1, 9):
        outer = ValueError(str(number))
        outer.__cause__ = error
        error = outer
    found = []
    walk: ExecutionError | None = described(error)
    while walk is not None:
        found.append(walk.message)
        walk = walk.cause
    assert found == ["8", "7", "6", "5", "4", "3"]


def test_a_suppressed_context_is_not_a_cause() -> None:
    def fail() -> None:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None

    assert described(raised(fail)).cause is None


def test_what_an_error_of_torana_was_made_of_stays_in_the_server() -> None:
    error = ResourceError("the database does not answer")
    error.__cause__ = ConnectionError("connect to 10.0.0.7 as root failed")
    outer = ValueError("loading failed")
    outer.__cause__ = error
    found = described(outer)
    assert found.cause is not None
    assert found.cause.message == "the database does not answer"
    assert found.cause.cause is None


def test_an_error_that_cannot_say_what_it_is_is_described_all_the_same() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert described(MuteError()).message == "the error has no message: its __str__ fails"


def stored(error: ExecutionError) -> ExecutionError:
    outputs = {f"{'s' * 120}{number:04}": 10**6 + number for number in range(1_000)}
    data = WireCodec().encode("e", Event(1, Micros(0), "", 0, Failed(error, outputs)))
    assert len(data) <= EVENT_BYTES_MAX
    body = WireCodec().decode(data).body
    assert isinstance(body, Failed)
    return body.error


@pytest.mark.parametrize("text", ["\ud800", "half \udfff of a pair"])
def test_text_that_is_no_unicode_is_stored_as_escapes(text: str) -> None:
    error = stored(described(StepError(text, metadata={"path": text})))
    assert error.message == text.encode("utf-8", "backslashreplace").decode()


def test_the_largest_error_with_all_its_causes_fits_into_one_event() -> None:
    error: BaseException = ResourceError("€" * 100_000, metadata={str(n): "€" * 9_999 for n in range(99)})
    for _ in range(9):
        outer = ValueError("€" * 100_000)
        outer.__cause__ = error
        error = outer
    assert stored(described(error)).type == "ValueError"
