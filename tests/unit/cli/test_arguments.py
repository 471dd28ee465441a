"""Values as they are typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana_server.cli.arguments import bindings, json_object, labels, values
from torana_server.cli.exits import UsageError


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("n=3", 3),
        ("n=-0.5", -0.5),
        ("n=18446744073709551617", 2**64 + 1),
        ("n=true", True),
        ("n=null", None),
        ("n=[1, 2]", [1, 2]),
        ('n={"a": {}}', {"a": {}}),
        ('n="3"', "3"),
        ("n=", ""),
        ("n=2026-01-15", "2026-01-15"),
        ("n=a=b", "a=b"),
        ("n=NaN", "NaN"),
        ("n=Infinity", "Infinity"),
        ("n={broken", "{broken"),
    ],
)
def test_a_value_is_json_where_it_reads_as_json_and_else_text(typed: str, value: object) -> None:
    assert values([typed], "-p") == {"n": value}


@given(st.text())
def test_any_text_is_some_value(text: str) -> None:
    assert list(values([f"n={text}"], "-p")) == ["n"]


@pytest.mark.parametrize("typed", ["", "name", "=3"])
def test_what_has_no_name_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="-p takes name=value"):
        values([typed], "-p")


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="gives 'n' twice"):
        values(["n=1", "n=2"], "-p")


def test_labels_stay_text() -> None:
    assert labels(["n=3", "team=a"]) == {"n": "3", "team": "a"}


def test_resources_are_shared_names_or_references() -> None:
    assert bindings(["db=@main", 'cache={"type": "cache", "config": {"port": 6379}}']) == {
        "db": "@main",
        "cache": {"type": "cache", "config": {"port": 6379}},
    }


def test_a_resource_that_is_neither_says_how_to_write_one() -> None:
    with pytest.raises(UsageError, match="write db=@shared-name"):
        bindings(["db=postgres://u:p@host/db"])


def test_the_place_of_what_is_no_json_is_told_and_never_the_text() -> None:
    with pytest.raises(UsageError) as caught:
        json_object('{"password": "hunter2",\n}', "standard input")
    assert "standard input is not JSON" in str(caught.value)
    assert "line 2, column 1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1]", '"a"', "3", "null"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must hold a JSON object"):
        json_object(text, "params.json")


def test_an_object_that_names_a_member_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        json_object('{"a": 1, "a": 2}', "params.json")
