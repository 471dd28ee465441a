from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana_server.core.errors import InvalidRequestError, Reason
from torana_server.core.limits import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    INLINE_VALUE_BYTES_MAX,
    LABEL_VALUE_CHARS_MAX,
    LABELS_MAX,
    RESOURCES_PER_REQUEST_MAX,
)
from torana_server.core.values import Payload
from torana_server.execution.request import TIMEOUT_S_MAX, ExecutionRequest, check_request, request_hash
from torana_server.resources import ResourceReference, SharedName

GOOD = ExecutionRequest(
    workflow="etl",
    parameters=Payload('{"since":"2026-01-01"}', {"/since": "date"}),
    context=Payload('{"user":"ann"}'),
    resources={"db": SharedName("warehouse"), "api": ResourceReference("http_client", {"base_url": "https://x"})},
    labels={"team": "größe"},
    idempotency_key="k",
    timeout_s=TIMEOUT_S_MAX,
)


def violated(**fields: Any) -> list[str]:
    with pytest.raises(InvalidRequestError) as refused:
        check_request(replace(GOOD, **fields))
    assert refused.value.reason in (Reason.INVALID_REQUEST, Reason.VALUE_TOO_LARGE)
    return [violation.path for violation in refused.value.violations]


def test_a_good_request_passes() -> None:
    check_request(GOOD)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"workflow": ""}, "request.workflow"),
        ({"workflow": "no spaces"}, "request.workflow"),
        ({"parameters": Payload("[1]")}, "request.parameters"),
        ({"parameters": Payload("{")}, "request.parameters"),
        ({"parameters": Payload('{"a":NaN}')}, "request.parameters"),
        ({"parameters": Payload('{"a":1}', {"/a": "unheard-of"})}, "request.parameters"),
        ({"parameters": Payload('{"a":"x"}', {"/a": "date"})}, "request.parameters"),
        ({"context": Payload('"text"')}, "request.context"),
        ({"context": Payload('{"a":"\ud800"}')}, "request.context"),
        ({"idempotency_key": "k" * (IDEMPOTENCY_KEY_CHARS_MAX + 1)}, "request.idempotency_key"),
        ({"idempotency_key": "\ud800"}, "request.idempotency_key"),
        ({"session_id": "s" * (IDEMPOTENCY_KEY_CHARS_MAX + 1)}, "request.session_id"),
        ({"session_id": "\udfff"}, "request.session_id"),
        ({"revision": "\udfff"}, "request.revision"),
        ({"labels": {"a b": "x"}}, "request.labels['a b']"),
        ({"labels": {"a": "x" * (LABEL_VALUE_CHARS_MAX + 1)}}, "request.labels['a']"),
        ({"labels": {"a": "\ud800"}}, "request.labels['a']"),
        ({"labels": {f"l{n}": "" for n in range(LABELS_MAX + 1)}}, "request.labels"),
        ({"resources": {"a b": SharedName("x")}}, "request.resources['a b']"),
        (
            {"resources": {f"r{n}": SharedName("x") for n in range(RESOURCES_PER_REQUEST_MAX + 1)}},
            "request.resources",
        ),
        ({"timeout_s": 0.0}, "request.timeout"),
        ({"timeout_s": -1.0}, "request.timeout"),
        ({"timeout_s": math.nan}, "request.timeout"),
        ({"timeout_s": math.inf}, "request.timeout"),
        ({"disconnect_grace_s": -1.0}, "request.disconnect_grace"),
        ({"disconnect_grace_s": math.nan}, "request.disconnect_grace"),
        ({"disconnect_grace_s": 86_401.0}, "request.disconnect_grace"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(fields: dict[str, Any], path: str) -> None:
    assert violated(**fields) == [path]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wrong = violated(workflow="", parameters=Payload("1"), timeout_s=0.0, session_id="\ud800")
    assert wrong == ["request.workflow", "request.parameters", "request.session_id", "request.timeout"]


def test_values_above_the_inline_limit_are_too_large() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        check_request(replace(GOOD, parameters=Payload(f'{{"a":"{"x" * INLINE_VALUE_BYTES_MAX}"}}')))
    assert refused.value.reason == Reason.VALUE_TOO_LARGE


# The hash


def test_the_order_of_keys_and_white_space_make_no_difference() -> None:
    one = replace(GOOD, parameters=Payload('{"a":1,"b":[2]}'))
    other = replace(
        GOOD, parameters=Payload('{ "b": [2],\n "a": 1 }'), resources=dict(reversed(list(GOOD.resources.items())))
    )
    assert request_hash(one) == request_hash(other)


@pytest.mark.parametrize(
    "fields",
    [
        {"workflow": "other"},
        {"revision": "r"},
        {"parameters": Payload('{"since":"2026-01-02"}')},
        {"parameters": Payload('{"since":"2026-01-01"}')},
        {"context": Payload('{"user":"bob"}')},
        {"resources": {}},
        {"resources": {**GOOD.resources, "db": SharedName("other")}},
        {"resources": {**GOOD.resources, "db": ResourceReference("database")}},
    ],
)
def test_what_a_request_asks_for_makes_the_difference(fields: dict[str, Any]) -> None:
    assert request_hash(replace(GOOD, **fields)) != request_hash(GOOD)


@pytest.mark.parametrize(
    "fields", [{"labels": {}}, {"timeout_s": None}, {"session_id": "s"}, {"idempotency_key": "other"}]
)
def test_what_it_is_called_and_how_long_it_may_take_make_none(fields: dict[str, Any]) -> None:
    assert request_hash(replace(GOOD, **fields)) == request_hash(GOOD)


def test_a_retry_is_another_request_than_what_it_is_a_retry_of() -> None:
    assert len({request_hash(GOOD), request_hash(GOOD, retry_of="e1"), request_hash(GOOD, retry_of="e2")}) == 3


@pytest.mark.parametrize("value", [math.nan, {1, 2}, "\ud800"])
def test_a_reference_that_is_not_json_is_refused(value: object) -> None:
    wrong = replace(GOOD, resources={"api": ResourceReference("http_client", {"x": value})})
    with pytest.raises(InvalidRequestError) as refused:
        request_hash(wrong)
    assert [violation.path for violation in refused.value.violations] == ["request.resources"]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=IDEMPOTENCY_KEY_CHARS_MAX))
def test_any_unicode_text_is_a_key(key: str) -> None:
    check_request(replace(GOOD, idempotency_key=key))
