"""JSON for people."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from torana_server.cli.view.pretty import one_line_of, pretty_lines

short = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=50)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | short,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(short, inner, max_size=9),
    max_leaves=30,
)


@given(values)
def test_what_needs_no_shortening_reads_back_as_it_was(value) -> None:
    assert json.loads("\n".join(pretty_lines(value))) == value


def test_what_is_small_stands_on_one_line() -> None:
    assert pretty_lines({"rows": [[1, "a"], [2, "b"]], "count": 2}) == ['{"rows": [[1, "a"], [2, "b"]], "count": 2}']


def test_a_long_array_shows_how_it_begins_and_how_much_is_left_out() -> None:
    assert pretty_lines({"rows": list(range(5_003))}) == [
        "{",
        '  "rows": [',
        "    0,",
        "    1,",
        "    2,",
        "    … 5,000 more",
        "  ]",
        "}",
    ]


def test_a_long_text_is_cut_and_says_so() -> None:
    assert pretty_lines("x" * 1_200)[0].endswith('… 1,000 more characters"')


def test_a_line_for_a_step_is_never_wider_than_asked() -> None:
    assert len(one_line_of("load", {"rows": list(range(10)), "text": "y" * 500}, 80)) == 80


def test_lines_are_printable() -> None:
    assert all(line.isprintable() for line in pretty_lines({"\x9b2J": "\u202e\x7f"}))
