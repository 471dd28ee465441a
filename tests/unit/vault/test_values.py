from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana_server.core.errors import InvalidRequestError, Reason
from torana_server.core.limits import SECRET_BYTES_MAX
from torana_server.vault import encode_value
from torana_server.vault.values import string_leaves

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
objects = st.dictionaries(
    st.text(),
    st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8),
    min_size=1,
)


@given(objects)
def test_any_json_object_reads_back_as_it_was(value: dict[str, Any]) -> None:
    assert json.loads(encode_value(value)) == value


def test_a_string_is_a_token() -> None:
    assert encode_value("abc") == b'{"token":"abc"}'


def test_all_problems_are_listed_by_path_and_never_by_value() -> None:
    value = {
        "raw": b"hunter22",
        "list": [1, float("nan"), {"deep": object()}],
        "half": "\ud800",
        "big": 10**1000,
        "keys": {7: "x"},
    }
    with pytest.raises(InvalidRequestError) as caught:
        encode_value(value)
    paths = [violation.path for violation in caught.value.violations]
    assert paths == ["value.raw", "value.list[1]", "value.list[2].deep", "value.half", "value.big", "value.keys"]
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({}, "empty"),
        (["a"], "pass a mapping"),
        (7, "pass a mapping"),
        (None, "pass a mapping"),
        ('{"token": "hunter22"}', "pass the mapping itself"),
    ],
)
def test_what_is_no_object_is_refused_with_a_hint(value: object, hint: str) -> None:
    with pytest.raises(InvalidRequestError, match=hint) as caught:
        encode_value(value)
    assert "hunter22" not in str(caught.value)


def test_the_size_limit_is_exact() -> None:
    frame = len(b'{"k":""}')
    assert len(encode_value({"k": "x" * (SECRET_BYTES_MAX - frame)})) == SECRET_BYTES_MAX
    with pytest.raises(InvalidRequestError) as caught:
        encode_value({"k": "x" * (SECRET_BYTES_MAX - frame + 1)})
    assert caught.value.reason is Reason.VALUE_TOO_LARGE


def test_nesting_is_bounded() -> None:
    value: dict[str, Any] = {"leaf": 1}
    for _ in range(5_000):
        value = {"k": value}
    with pytest.raises(InvalidRequestError, match="nested deeper"):
        encode_value(value)


def test_leaves_are_all_strings_with_the_credentials_inside_them() -> None:
    values = {
        "dsn": "postgresql://app:p%40ss@db/x",
        "headers": {"Authorization": "Bearer tok-1"},
        "keys": ["a", {"b": "c"}],
        "header": "X-Api-Key",
        "port": 5432,
    }
    leaves = ["postgresql://app:p%40ss@db/x", "p%40ss", "p@ss", "Bearer tok-1", "tok-1", "a", "c"]
    assert list(string_leaves(values)) == leaves
