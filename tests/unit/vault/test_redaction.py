from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana_server.vault import Redactor

PASSWORD = 'p@ss/w"örd\\ 1'


def redactor(*values: str, values_max: int = 100) -> Redactor:
    made = Redactor(values_max)
    made.register(values)
    return made


@pytest.mark.parametrize(
    "form",
    [
        PASSWORD,
        PASSWORD.encode().hex(),
        PASSWORD.encode().hex().upper(),
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.urlsafe_b64encode(PASSWORD.encode()).decode(),
        quote(PASSWORD),
        quote(PASSWORD, safe=""),
        quote_plus(PASSWORD),
        quote(PASSWORD, safe="").lower(),
        json.dumps(PASSWORD)[1:-1],
        json.dumps(PASSWORD, ensure_ascii=False)[1:-1],
        repr(PASSWORD)[1:-1],
    ],
)
def test_every_form_is_replaced(form: str) -> None:
    assert redactor(PASSWORD).redact(f"failed for <{form}>.") == "failed for <[redacted]>."


@given(value=st.text(min_size=6, max_size=20), before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_base64_of_a_longer_text_does_not_give_it_away(value: str, before: bytes, after: bytes) -> None:
    data = value.encode(errors="surrogatepass")
    text = base64.b64encode(before + data + after).decode()
    left = redactor(value).redact(text)
    assert "[redacted]" in left
    assert len(left.replace("[redacted]", "")) <= len(text) - len(data) * 8 // 6 + 2


@given(values=st.lists(st.text(min_size=6, max_size=12), max_size=5), text=st.text(max_size=40))
def test_no_value_survives(values: list[str], text: str) -> None:
    mixed = text + "".join(values) + text
    left = redactor(*values).redact(mixed)
    assert all(value not in left.replace("[redacted]", "") or value in "[redacted]" for value in values)


@given(st.text())
def test_text_without_secrets_is_left_alone(text: str) -> None:
    assert Redactor().redact(text) == text
    assert redactor("\ue000" * 7).redact(text) == text


def test_overlapping_values_go_together() -> None:
    assert redactor("abcdefgh", "ghijklm").redact("x abcdefghijklm y") == "x [redacted] y"


def test_the_longer_of_two_values_wins() -> None:
    assert redactor("abcdef", "abcdefgh").redact("abcdefgh abcdef") == "[redacted] [redacted]"


def test_short_values_are_ignored() -> None:
    assert redactor("admin").redact("admin logged in") == "admin logged in"


def test_the_values_longest_unused_are_forgotten_first() -> None:
    made = redactor(*(f"secret-{n}" for n in range(8)), values_max=8)
    made.register(["secret-0", "secret-8"])
    assert made.redact("secret-0") == "[redacted]"
    assert made.redact("secret-8") == "[redacted]"
    assert made.redact("secret-1") == "secret-1"


def test_long_values_are_bounded_by_their_characters() -> None:
    made = Redactor(chars_max=400)
    longs = [f"{n}" * 100 for n in range(6)]
    for long in longs:
        made.register([long])
    assert [made.redact(long) == "[redacted]" for long in longs] == [False, False, True, True, True, True]
    made.register(longs[-4:])
    assert made.redact(longs[2]) == "[redacted]", "what is registered again is counted once"
