"""Values as YAML."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from torana_server.cli.view import value_json, yaml_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_yaml_reads_back_as_what_json_gives(value: object) -> None:
    assert yaml.safe_load(yaml_text(value)) == json.loads(value_json(value))


def test_source_stands_as_a_block() -> None:
    assert yaml_text({"source": "a = 1\nreturn a\n"}) == "source: |\n  a = 1\n  return a\n"


def test_a_scalar_is_one_line() -> None:
    assert yaml_text("yes") == "'yes'\n"
