"""Text of others, as it may be shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from torana_server.core.lines import LINE_CHARS_MAX, clean, excerpt, one_line, shortened

SECRET = "hunter2-hunter2"
any_text = st.text(st.characters(), max_size=200)  # lone surrogates included
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_text | st.integers(), inner, max_size=5),
    max_leaves=30,
)


def redact(text: str) -> str:
    return text.replace(SECRET, "[redacted]")


def same(text: str) -> str:
    return text


@given(any_text)
@example("\ud800")
@example("\x1b[2J\r\n\u202e\u200b\u2028\x85\x9b31m")
def test_a_line_is_printable_and_stays_as_it_is_when_it_was(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert line == text or not text.isprintable()


@pytest.mark.parametrize("before", [0, LINE_CHARS_MAX - 5, LINE_CHARS_MAX, 71_990, 71_999, 72_000])
def test_a_secret_that_a_cut_goes_through_leaves_nothing_of_itself(before: int) -> None:
    line = shortened("x" * before + SECRET + "y" * 100_000, redact, LINE_CHARS_MAX)
    assert "hunter" not in line
    assert len(line) <= LINE_CHARS_MAX + 40


def test_a_text_full_of_secrets_shows_none_at_its_cut() -> None:
    assert "hunter" not in shortened((SECRET + " ") * 20_000, redact, LINE_CHARS_MAX)


def test_a_text_that_is_cut_says_how_much_is_missing() -> None:
    assert shortened("x" * 110, same, 100) == "x" * 100 + "… (10 more characters)"
    assert shortened("x" * 1_000_000, same, 100).endswith("… (999900 more characters)")


def test_escapes_do_not_blow_a_line_up() -> None:
    assert len(clean("\x00" * 10_000, same)) <= 2 * LINE_CHARS_MAX + 1


@given(values)
def test_an_excerpt_is_json_of_bounded_size_with_printable_texts(value: Any) -> None:
    written = json.dumps(excerpt(value, redact, chars_max=200), allow_nan=False, ensure_ascii=False)
    assert written.isprintable()
    assert len(written) < 2_000


@given(st.dictionaries(any_text, values, max_size=5))
def test_a_secret_is_in_no_excerpt_whatever_lies_around_it(value: dict[str, Any]) -> None:
    planted = {**value, f"key {SECRET}": [value, {"deep": f"{SECRET}!"}], "object": Exception(SECRET)}
    assert "hunter2-hunter2" not in json.dumps(excerpt(planted, redact))


def test_a_secret_that_is_a_number_is_not_in_an_excerpt() -> None:
    assert excerpt({"pin": 12345678}, lambda text: text.replace("12345678", "***")) == {"pin": "***"}


def test_what_is_short_is_in_an_excerpt_as_it_is() -> None:
    value = {"rows": [1, 2.5, True, None, "é"], "nested": {"a": []}}
    assert excerpt(value, same) == value


def test_what_is_left_out_is_said() -> None:
    shown: Any = excerpt({"rows": list(range(1_000)), "text": "x" * 500, "more": 1}, same, chars_max=100)
    assert shown["rows"][-1].startswith("… (")
    assert shown["…"] == "(2 more)"
    nested: list[Any] = []
    for _ in range(50):
        nested = [nested]
    assert "nested deeper" in str(excerpt(nested, same))


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1 << 20_000, "… (a very large integer)"),
        (Hostile(), "<Hostile>"),
        (b"\x00", "b'\\x00'"),
        ({1: "one"}, {"1": "one"}),
    ],
    ids=["nan", "infinity", "large integer", "hostile", "bytes", "keys"],
)
def test_what_json_lacks_is_described(value: object, shown: object) -> None:
    assert excerpt(value, same) == shown
