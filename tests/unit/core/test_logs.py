"""What every record of Torana's loggers goes through, whoever installed the handler."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from torana_server.core import logs
from torana_server.core.logs import Errand, LogFilter
from torana_server.telemetry import LineFormatter, _json, _pretty

SECRET = "hunter2-hunter2"
any_text = st.text(st.characters(), max_size=100)
any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=10,
)


class Redactor:
    def redact(self, text: str) -> str:
        return text.replace(SECRET, "[redacted]")


class Place:
    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def log_fields(self) -> Mapping[str, object]:
        return self.fields


class Lines(logging.Handler):
    """The handler of a program that embeds Torana: it knows nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []
        self.formatted: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.formatted.append(logging.Formatter("%(levelname)s %(message)s").format(record))


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("torana")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    logs.redact_with(redactor)
    return redactor


def record_of(message: str, extra: Mapping[str, object], error: BaseException | None = None) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "theirs", "levelname": "INFO", "msg": message, "args": ()})
    record.__dict__.update(extra)
    if error is not None:
        record.exc_info = (type(error), error, None)
    return record


def test_a_line_carries_the_ids_in_effect(lines: Lines) -> None:
    async def work() -> None:
        logs.enter(Place(execution="e", step="s", attempt=2))
        await asyncio.gather(child(), asyncio.to_thread(logs.logger("steps").info, "in a thread"))

    async def child() -> None:
        logs.logger("steps").info("in a task")

    asyncio.run(work())
    logs.logger("steps").info("outside")
    ids = [(r.message, getattr(r, "execution", None), getattr(r, "attempt", None)) for r in lines.records]
    assert sorted(ids[:2]) == [("in a task", "e", 2), ("in a thread", "e", 2)]
    assert ids[2] == ("outside", None, None)


def test_nobody_passes_a_line_off_as_that_of_another_execution(lines: Lines) -> None:
    async def work() -> None:
        logs.enter(Place(execution="mine"))
        logs.logger("steps").info("x", extra={"execution": "theirs", "level": "debug"})

    asyncio.run(work())
    assert lines.records[0].execution == "mine"
    assert lines.records[0].extra_execution == "theirs"
    assert lines.records[0].extra_level == "debug"


def test_secrets_are_redacted_before_any_handler_sees_the_line(lines: Lines, redactor: Redactor) -> None:
    logger = logs.logger("resources")
    try:
        raise ValueError(f"login {SECRET}") from OSError(SECRET)
    except ValueError:
        logger.exception("with %s", SECRET, extra={"target": SECRET, SECRET: {"deep": [SECRET]}}, stack_info=True)
    (record,) = lines.records
    assert SECRET not in f"{vars(record)}{lines.formatted}"
    assert (record.message, record.error_type) == ("with [redacted]", "ValueError")
    assert "ValueError: login [redacted]" in record.exc_text


def test_a_redactor_that_is_gone_is_not_asked(lines: Lines) -> None:
    class Once(Redactor):
        def redact(self, text: str) -> str:
            raise AssertionError("asked")

    logs.redact_with(Once())
    logs.logger("gateway").info("fine")
    assert lines.records[0].message == "fine"


def test_an_exceptions_words_cannot_look_like_a_line(lines: Lines) -> None:
    try:
        raise ValueError("x\nERROR forged\r\x1b[2J\u202e")
    except ValueError:
        logs.logger("steps").exception("failed\nINFO forged too")
    first, *rest = lines.formatted[0].split("\n")
    assert first == "ERROR failed\\nINFO forged too"
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_a_wrong_format_loses_no_line(lines: Lines) -> None:
    logs.logger("steps").info("%d", "x")
    assert lines.records[0].message == "%d ('x',)"


def test_long_exceptions_are_bounded_and_keep_both_ends(lines: Lines) -> None:
    try:
        raise ValueError("\n".join(f"line {n}" for n in range(100_000)))
    except ValueError:
        logs.logger("steps").exception("failed")
    text = lines.records[0].exc_text
    assert text.count("\n") <= logs.EXCEPTION_LINES_MAX
    assert "Traceback" in text
    assert "more lines)" in text


async def test_an_errand_has_the_fields_of_whoever_sent_it_until_it_ends(lines: Lines) -> None:
    """Drivers keep the context their connections were opened in."""

    async def opens(errand: Errand) -> None:
        logs.logger("resources").info("opening")
        errand.end()
        logs.logger("resources").info("later")

    async def step() -> None:
        logs.enter(Place(execution="e"))
        errand = Errand()
        await asyncio.get_running_loop().create_task(opens(errand), context=errand.context())

    await asyncio.create_task(step())
    assert [getattr(record, "execution", None) for record in lines.records] == ["e", None]


def test_the_ids_of_the_current_span_are_on_the_line(lines: Lines) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))
    with trace.use_span(span):
        logs.logger("gateway").info("within")
    logs.logger("gateway").info("without")
    within, without = lines.records
    assert (within.trace_id, within.span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert not hasattr(without, "trace_id")


def test_the_filter_on_a_handler_does_the_same_for_the_lines_of_others(redactor: Redactor) -> None:
    record: Any = record_of(f"say {SECRET}\n", {"pool": {"password": SECRET}})
    record.name = "evil\nlogger"
    assert LogFilter().filter(record)
    assert (record.getMessage(), record.name) == ("say [redacted]\\n", "evil\\nlogger")
    assert record.pool == {"password": "[redacted]"}


@given(any_text, st.dictionaries(any_text.filter(lambda key: key not in vars(record_of("", {}))), any_value), any_text)
def test_whatever_is_logged_a_json_line_is_one_line_of_json(message: str, extra: dict[str, Any], said: str) -> None:
    record = record_of(message, extra, ValueError(said))
    LogFilter().filter(record)
    line = LineFormatter(_json).format(record)
    assert line.isprintable()
    assert line.encode()
    read = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert list(read)[:4] == ["time", "level", "logger", "message"]
    assert (read["level"], read["logger"], read["error_type"]) == ("info", "theirs", "ValueError")


@given(any_text, st.dictionaries(any_text.filter(lambda key: key not in vars(record_of("", {}))), any_value), any_text)
def test_whatever_is_logged_a_pretty_line_steers_no_terminal(message: str, extra: dict[str, Any], said: str) -> None:
    record = record_of(message, extra, ValueError(said))
    LogFilter().filter(record)
    first, *rest = LineFormatter(_pretty(colors=False)).format(record).split("\n")
    assert first.isprintable()
    assert all(line.isprintable() and (not line or line.startswith("  ")) for line in rest)


def test_a_field_of_a_pretty_line_cannot_look_like_several() -> None:
    record = record_of("x", {"note": "y execution=forged"})
    LogFilter().filter(record)
    assert "note='y execution=forged'" in LineFormatter(_pretty(colors=False)).format(record)
