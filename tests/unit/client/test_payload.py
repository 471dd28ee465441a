"""The payload codec of the Python client."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana import BlobReference
from torana._payload import decode, encode, encode_object
from torana.errors import InvalidRequestError
from torana.v1 import payload_pb2

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.datetimes(timezones=st.none() | OFFSETS),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.binary(max_size=5),
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(TEXT | st.sampled_from(["*", "0", "a/b", "~1"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_every_value_comes_back_as_it_was(value: object) -> None:
    decoded = decode(encode(value, "value"))
    assert decoded == value
    assert types_of(decoded) == types_of(value)


def types_of(value: object) -> object:
    if isinstance(value, dict):
        return {key: types_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [types_of(item) for item in value]
    return type(value)


@pytest.mark.parametrize(
    ("value", "json", "kind"),
    [
        (datetime(2026, 1, 15, 12, 30, tzinfo=UTC), '"2026-01-15T12:30:00+00:00"', "datetime"),
        (datetime(2026, 1, 15, 12, 30), '"2026-01-15T12:30:00"', "datetime"),  # noqa: DTZ001 — the case at hand
        (date(2026, 1, 15), '"2026-01-15"', "date"),
        (time(12, 30, 0, 5), '"12:30:00.000005"', "time"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=5), '"93784.000005"', "timedelta"),
        (timedelta(microseconds=-1), '"-0.000001"', "timedelta"),
        (timedelta(seconds=90), '"90"', "timedelta"),
        (Decimal("1.10"), '"1.10"', "decimal"),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"', "uuid"),
        (b"\xff\xfe", '"//4="', "bytes"),
        ((1, 2), "[1,2]", "tuple"),
        ({3, 1, 2}, "[1,2,3]", "set"),
    ],
)
def test_each_type_has_one_json_form(value: object, json: str, kind: str) -> None:
    assert encode(value, "value") == payload_pb2.Payload(json=json, types={"": kind})


def test_elements_that_agree_share_one_pattern_and_null_agrees_with_all() -> None:
    rows = [{"at": date(2026, 1, 1)}, {"at": None}, {}, {"at": date(2026, 1, 2)}]
    assert dict(encode({"rows": rows}, "value").types) == {"/rows/*/at": "date"}


def test_elements_that_differ_get_a_pattern_each() -> None:
    mixed = [date(2026, 1, 1), "2026-01-01", Decimal(1)]
    assert dict(encode(mixed, "value").types) == {"/0": "date", "/2": "decimal"}


def test_a_set_holds_frozen_sets_and_tuples_again() -> None:
    value = {frozenset({1, 2}), (b"x", 3)}
    assert decode(encode(value, "value")) == value


def test_integers_stay_exact_up_to_a_thousand_digits() -> None:
    value = 10**1000 - 1
    assert decode(encode(value, "value")) == value
    with pytest.raises(InvalidRequestError, match="1,000 digits"):
        encode(value + 1, "value")


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({"rows": [1.0, float("nan")]}, "parameters/rows/1", "nan is not a finite number"),
        ({"x": Decimal("Infinity")}, "parameters/x", "not a finite number"),
        ({"a/b": object()}, "parameters/a~1b", "object has no JSON form"),
        ({1: 2}, "parameters", "the key 1 is not a string"),
        ({"x": "\ud800"}, "parameters/x", "surrogate"),
    ],
)
def test_what_json_lacks_is_refused_with_its_path(value: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        encode_object(value, "parameters")
    assert [violation.path for violation in caught.value.violations] == [path]


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidRequestError, match="contains itself"):
        encode(loop, "value")


def test_parameters_must_be_an_object() -> None:
    with pytest.raises(InvalidRequestError, match="must be a mapping of names to values, not list"):
        encode_object([1], "parameters")  # type: ignore[arg-type]  # the mistake at hand


@pytest.mark.parametrize(
    ("json", "types", "expected"),
    [
        ('{"x":1}', {"/x": "polygon"}, {"x": 1}),
        ('{"x":"soon"}', {"/x": "datetime"}, {"x": "soon"}),
        ('{"x":5}', {"/x": "uuid"}, {"x": 5}),
        ('{"x":null}', {"/x": "date"}, {"x": None}),
        ('{"x":[{}]}', {"": "set", "/x": "set", "/y/0": "date", "/x/7": "date"}, {"x": [{}]}),
        ('["2026-01-01"]', {"/first": "date"}, ["2026-01-01"]),
    ],
)
def test_a_pattern_that_does_not_fit_leaves_plain_json(json: str, types: dict[str, str], expected: object) -> None:
    assert decode(payload_pb2.Payload(json=json, types=types)) == expected


def test_no_value_is_none_and_a_blob_is_a_reference() -> None:
    assert decode(payload_pb2.Payload()) is None
    blob = payload_pb2.BlobReference(sha256="ab", size_bytes=7)
    assert decode(payload_pb2.Payload(blob=blob)) == BlobReference("ab", 7)


def test_the_hand_written_form_has_whole_numbers_as_integers() -> None:
    payload = payload_pb2.Payload()
    payload.value.struct_value.update({"n": 3, "f": 0.5, "l": [True, None]})
    assert decode(payload) == {"n": 3, "f": 0.5, "l": [True, None]}
    assert isinstance(decode(payload)["n"], int)
