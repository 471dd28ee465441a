from __future__ import annotations

import copy
import json
import pickle

import pytest

from torana_server.vault import Secret, encode_value

SECRET = Secret(encode_value({"user": "app", "password": "hunter22", "nested": {"keys": [1, 2.5, None]}}))


def test_only_reveal_shows_the_values() -> None:
    assert SECRET.reveal() == {"user": "app", "password": "hunter22", "nested": {"keys": [1, 2.5, None]}}
    shown = (repr(SECRET), str(SECRET), f"{SECRET}", f"{SECRET:>40}", repr([SECRET]), repr(dir(SECRET)))
    assert all("hunter22" not in text for text in shown)
    assert str(SECRET) == "Secret([redacted])"


def test_what_reveal_returns_is_the_callers_own() -> None:
    SECRET.reveal()["nested"]["keys"].append("changed")
    assert SECRET.reveal()["nested"]["keys"] == [1, 2.5, None]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_refused(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(SECRET, protocol)


def test_json_is_refused() -> None:
    with pytest.raises(TypeError):
        json.dumps({"secret": SECRET})


def test_copies_are_equal_and_as_silent() -> None:
    for twin in (copy.copy(SECRET), copy.deepcopy(SECRET)):
        assert twin == SECRET
        assert "hunter22" not in repr(twin)


def test_equality_is_by_value_and_hashing_is_refused() -> None:
    assert Secret(b'{"a":1}') == Secret(b'{"a":1}')
    assert Secret(b'{"a":1}') != Secret(b'{"a":2}')
    assert SECRET != "hunter22"
    with pytest.raises(TypeError):
        hash(SECRET)


def test_has_no_dict_to_look_into() -> None:
    with pytest.raises(TypeError):
        vars(SECRET)
