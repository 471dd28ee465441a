from __future__ import annotations

import asyncio
import enum
import json
import sqlite3
from collections import OrderedDict, namedtuple
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana_server.core.errors import InvalidRequestError, Reason, StepError
from torana_server.core.values import (
    Payload,
    canonical,
    checked,
    decode,
    decode_plain,
    encode,
    parse,
    size_of,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**999), 10**999)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
typed_scalars = (
    st.datetimes(timezones=st.none() | offsets)
    | st.dates()
    | st.times(timezones=st.none() | offsets)
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | st.binary(max_size=20)
)
scalars = json_scalars | typed_scalars
hashables = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
keys = texts | st.sampled_from(["*", "/", "~", "~2", "a*b/~", "0", ""])
values = st.recursive(
    scalars | st.sets(hashables, max_size=4) | hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(st.fixed_dictionaries({"at": st.none() | st.datetimes(), "n": inner}), max_size=4)
    ),
    max_leaves=20,
)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def same(left: Any, right: Any) -> bool:
    """Equality that tells 1 from True and 1.0, -0.0 from 0.0, and a frozen set from none."""
    if isinstance(left, set | frozenset):
        return isinstance(right, set | frozenset) and left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, datetime | time):
        return bool(left.isoformat() == right.isoformat())
    return repr(left) == repr(right)


@settings(max_examples=400)
@given(values)
def test_every_storable_value_reads_back_as_it_was(value: object) -> None:
    assert same(value, decode(encode(value)))


@given(json_values)
def test_json_values_need_no_types_and_foreign_clients_see_them_exactly(value: object) -> None:
    payload = encode(value)
    assert payload.types == {}
    assert same(json.loads(payload.json), value)
    assert same(decode_plain(payload), value)
    assert same(parse(payload.json), value)


@given(values)
def test_what_encode_writes_is_accepted_from_outside_and_is_stable(value: object) -> None:
    payload = encode(value)
    assert checked(payload.json, payload.types) == payload
    assert encode(decode(payload)) == payload


@given(values)
def test_plain_decoding_is_what_any_json_reader_sees(value: object) -> None:
    payload = encode(value)
    assert decode_plain(payload) == json.loads(payload.json)


@given(values)
def test_two_decodings_share_nothing(value: object) -> None:
    payload = encode({"value": value})
    first, second = decode(payload), decode(payload)
    assert isinstance(first, dict)
    first["more"] = 1
    assert second == decode(payload)


@pytest.mark.parametrize(
    ("value", "text", "kind"),
    [
        (datetime(2024, 2, 29, 12, 30, 1, 5, UTC), '"2024-02-29T12:30:01.000005+00:00"', "datetime"),
        (datetime(2024, 2, 29, 12, 30), '"2024-02-29T12:30:00"', "datetime"),  # noqa: DTZ001 — naive values are allowed
        (date(2024, 2, 29), '"2024-02-29"', "date"),
        (time(1, 2, 3), '"01:02:03"', "time"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=5), '"93784.000005"', "timedelta"),
        (timedelta(seconds=-1.5), '"-1.5"', "timedelta"),
        (timedelta(0), '"0"', "timedelta"),
        (Decimal("1.10"), '"1.10"', "decimal"),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"', "uuid"),
        (b"\xff\x00", '"/wA="', "bytes"),
        ((1, "a"), '[1,"a"]', "tuple"),
        ({"b", "a"}, '["a","b"]', "set"),
        (frozenset({10, 9}), "[10,9]", "set"),
    ],
)
def test_each_type_has_one_plain_form(value: object, text: str, kind: str) -> None:
    assert encode(value) == Payload(text, {"": kind})


def test_one_pattern_covers_all_elements_that_agree_and_nulls_agree_with_all() -> None:
    day = date(2024, 1, 1)
    payload = encode({"rows": [{"at": day}, {"at": None}, {}, {"at": day}]})
    assert payload.types == {"/rows/*/at": "date"}


def test_elements_that_differ_are_listed_by_index() -> None:
    assert encode([date(2024, 1, 1), "2024-01-01", Decimal(1)]).types == {"/0": "date", "/2": "decimal"}


def test_keys_with_pointer_characters_are_escaped() -> None:
    assert encode({"a*/~": b""}).types == {"/a~2~1~0": "bytes"}


def test_big_integers_and_floats_are_exact() -> None:
    value = {"big": 2**64, "huge": 10**1000 - 1, "third": 0.1 + 0.2, "tiny": 5e-324}
    assert decode(encode(value)) == value


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    at: date
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    left: int


class Record:
    """As asyncpg.Record: keys, items, look-up by key, and not a Mapping."""

    def __init__(self, **members: object) -> None:
        self._members = members

    def keys(self) -> Iterator[str]:
        return iter(self._members)

    def items(self) -> Iterator[tuple[str, object]]:
        return iter(self._members.items())

    def __getitem__(self, key: str) -> object:
        return self._members[key]


class Text(str):
    __slots__ = ()


Named = namedtuple("Named", "a b")


@pytest.mark.parametrize(
    ("value", "read_back"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Text("a"), "a"),
        ({Text("a"): Level.HIGH}, {"a": 3}),
        (Point(1, date(2024, 1, 1), ["a"]), {"x": 1, "at": date(2024, 1, 1), "tags": ["a"]}),
        (Record(id=1, at=b"x"), {"id": 1, "at": b"x"}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": (1,)}),
        (Named(1, 2), (1, 2)),
        ({Pair(1)}, [{"left": 1}]),
    ],
)
def test_relatives_of_storable_types_are_stored_as_plain_values(value: object, read_back: object) -> None:
    decoded = decode(encode(value))
    assert same(decoded, read_back)


def test_sqlite_rows_are_objects() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        row = connection.execute("select 1 as id, 'a' as name").fetchone()
    finally:
        connection.close()
    assert decode(encode([row])) == [{"id": 1, "name": "a"}]


class Unreadable(Record):
    def __getitem__(self, key: str) -> object:
        raise OSError("the cursor is closed")


def circle() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


class Awaited:
    def __await__(self) -> Generator[None, None, None]:
        yield


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path", "kind", "words"),
    [
        (object(), "", "object", "no JSON form"),
        ({"a": [1, object()]}, "/a/1", "object", "/a/1"),
        ({"a": asyncio.Event.wait}, "/a", "function", "no JSON form"),
        ({"a": Awaited()}, "/a", None, "an 'await' before it is missing"),
        ({"a": float("nan")}, "/a", "float", "finite"),
        ([float("-inf")], "/0", "float", "-inf"),
        (Decimal("NaN"), "", "decimal.Decimal", "finite"),
        ({1: 2}, "", "dict", "keys must be strings"),
        ({"a": {None: 1}}, "/a", "dict", "keys must be strings"),
        ([10**1000], "/0", "int", "1000 digits"),
        (["\ud800"], "/0", "str", "surrogate"),
        ({"\udc00": 1}, "", "str", "surrogate"),
        (nested(101), "/0" * 100, "list", "100 levels"),
        (circle(), "/0" * 100, "list", "contains itself"),
        (enum.Enum("Plain", "A").A, "", None, "no JSON form"),  # type: ignore[attr-defined]  # made for the test
        (Record, "", "type", "no JSON form"),
        ({"r": Unreadable(a=1)}, "/r", None, "could not be read: OSError: the cursor is closed"),
        ({"a/b": {1j}}, "/a~1b/0", "complex", "complex"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_path_and_type(
    value: object, path: str, kind: str | None, words: str
) -> None:
    with pytest.raises(StepError) as caught:
        encode(value)
    assert caught.value.reason is Reason.VALUE_NOT_STORABLE
    assert words in caught.value.message
    assert caught.value.metadata["path"].rstrip("…") == path[:200]
    if kind is not None:
        assert caught.value.metadata["type"] == kind


def test_a_hundred_levels_are_stored_and_read() -> None:
    value = nested(100)
    payload = encode(value)
    assert parse(payload.json) == decode(payload) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "line 1, column 2"),
        ("{} x", "Extra data"),
        ("{'a':1}", "not JSON"),
        ('{"a":1,"b":{"c":1,"c":2}}', "the key 'c' is there twice"),
        ("NaN", "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("[1e400]", "beyond the range"),
        ("-1" + "0" * 1000, "more than 1000 digits"),
        ("[" * 101 + "]" * 101, "100 levels"),
        ("[" * 100_000 + "]" * 100_000, "100 levels"),
        ('["\\ud800"]', "/0: the value holds half of a surrogate"),
    ],
)
def test_text_that_could_not_be_given_back_exactly_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse(text)
    assert words in str(caught.value)


def test_surrogate_pairs_are_one_character() -> None:
    assert parse('"\\ud83d\\ude00"') == "😀"


def test_integers_of_a_thousand_digits_are_accepted_with_their_sign() -> None:
    assert parse("-" + "9" * 1000) == -int("9" * 1000)


@pytest.mark.parametrize(
    ("text", "types", "words"),
    [
        ('"x"', {"": "datetime"}, "'x' is not a datetime"),
        ("1", {"": "uuid"}, "1 is not a uuid"),
        ('"a"', {"": "money"}, "unknown type 'money'"),
        ('{"a":"x"}', {"a": "uuid"}, "starts with '/'"),
        ('"1e5"', {"": "timedelta"}, "not a timedelta"),
        ('"Infinity"', {"": "decimal"}, "not a decimal"),
        ('"a"', {"": "bytes"}, "not a bytes"),
        ("[[1]]", {"": "set"}, "not a set"),
        ('{"rows":["2024-01-01","x"]}', {"/rows/*": "date"}, "/rows/1: 'x' is not a date"),
        ('["2024-01-01"]', {"/*": "date", "/0": "uuid"}, "several types: date, uuid"),
    ],
)
def test_types_that_do_not_fit_the_value_are_refused_with_the_path(
    text: str, types: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked(text, types)
    assert words in str(caught.value)


def test_patterns_that_meet_nothing_change_nothing() -> None:
    types = {"/missing": "date", "/list/7": "date", "/list/*/x": "date", "/null": "uuid"}
    assert decode(checked('{"list":[1],"null":null}', types)) == {"list": [1], "null": None}


def test_many_patterns_cost_one_walk() -> None:
    text = json.dumps([[None] * 100] * 100)
    types = {f"/*/{index}": "date" for index in range(100)} | {f"/{index}/*": "uuid" for index in range(100)}
    assert decode(checked(text, types)) == [[None] * 100] * 100


def test_the_size_is_that_of_the_utf8_text_and_the_types() -> None:
    assert size_of(Payload('"é"')) == 4
    assert size_of(Payload('"a"', {"/é": "date"})) == 3 + 3 + 4


@given(st.dictionaries(texts, json_values, max_size=5), st.randoms())
def test_canonical_text_ignores_the_order_of_keys(value: dict[str, object], random: Any) -> None:
    shuffled = list(value.items())
    random.shuffle(shuffled)
    assert canonical(value) == canonical(dict(shuffled))
    assert json.loads(canonical(value)) == value


@pytest.mark.parametrize("text", ["[1, 2]", " [1,2] ", "\n[1,2]"])
def test_spaces_around_and_within_json_are_fine(text: str) -> None:
    assert decode(checked(text)) == [1, 2]


def test_text_that_never_was_checked_fails_clearly_when_decoded() -> None:
    with pytest.raises(InvalidRequestError, match="not JSON"):
        decode(Payload("{"))
    with pytest.raises(InvalidRequestError) as caught:
        decode(Payload("NaN"))
    assert "NaN is not JSON" in str(caught.value)
