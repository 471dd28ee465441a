"""A file and standard input are read alike, and what cannot be read is told without its text."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from torana_server.cli import secrets
from torana_server.cli.exits import UsageError
from torana_server.cli.reading import text_of

NO_TEXT = b'{"password": "hunter2\xff"}'


@pytest.fixture(params=["file", "-"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Holds NO_TEXT."""
    if request.param == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(NO_TEXT), "utf-8"))
        return "-"
    path = tmp_path / "value.json"
    path.write_bytes(NO_TEXT)
    return str(path)


def test_what_is_no_text_is_told_with_its_place_and_not_shown(source: str) -> None:
    name = "standard input" if source == "-" else source
    with pytest.raises(UsageError) as refused:
        text_of(source)
    assert str(refused.value) == f"{name} cannot be read: it is not utf-8 text from byte 21 on"


def test_a_secret_that_is_no_text_is_an_error_of_usage(source: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        secrets.secret_value("-", None, []) if source == "-" else secrets.secret_value("", Path(source), [])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json cannot be read: No such file"):
        text_of(str(tmp_path / "none.json"))
