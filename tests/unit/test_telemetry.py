"""What a process that owns its logging sets up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from torana_server.telemetry import configure_logging


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_of_every_logger_go_to_standard_error_as_json(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", "auto")
    logging.getLogger("theirs").info("hello", extra={"rows": 3})
    logging.getLogger("theirs").debug("quiet")
    line = json.loads(capsys.readouterr().err)
    assert (line["logger"], line["message"], line["rows"]) == ("theirs", "hello", 3)


def test_a_part_can_be_louder_than_the_rest(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", "json")
    loud = logging.getLogger("torana.resources")
    loud.setLevel(logging.DEBUG)
    try:
        loud.debug("traced")
    finally:
        loud.setLevel(logging.NOTSET)
    assert json.loads(capsys.readouterr().err)["message"] == "traced"


def test_a_program_that_has_set_up_its_logging_keeps_it(root: logging.Logger) -> None:
    own = logging.NullHandler()
    root.handlers[:] = [own]  # without those of the test runner
    root.setLevel(logging.ERROR)
    configure_logging("DEBUG", "json", replace=False)
    assert (root.handlers, root.level) == ([own], logging.ERROR)


def test_a_program_without_handlers_gets_them(root: logging.Logger) -> None:
    root.handlers[:] = []
    configure_logging("DEBUG", "console", replace=False)
    assert len(root.handlers) == 1
