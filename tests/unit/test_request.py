from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import torana
from torana_server import InvalidRequestError, ResourceReference, WorkflowRequest
from torana_server.request import engine_request
from torana_server.resources import SharedName


def test_everything_of_a_wrong_type_is_told_at_once() -> None:
    wrong: dict[str, Any] = {
        "parameters": ["a"],
        "resources": {1: "@x"},
        "context": "x",
        "labels": {"a": 1},
        "timeout": "30s",
        "idempotency_key": 7,
    }
    with pytest.raises(InvalidRequestError) as caught:
        WorkflowRequest(**wrong)
    assert {violation.path: violation.message for violation in caught.value.violations} == {
        "parameters": "must be a mapping, not list",
        "resources": "must have strings for keys",
        "context": "must be a mapping, not str",
        "labels": "must have strings for values",
        "timeout": "must be seconds or a timedelta, not str",
        "idempotency_key": "must be a string, not int",
    }


def test_plain_dicts_and_shared_names_are_bindings() -> None:
    request = WorkflowRequest(
        resources={
            "db": {"type": "database", "config": {"host": "db"}, "credentials_ref": "login"},
            "same": ResourceReference("database", {"host": "db"}, "login"),
            "cache": "@main",
        }
    )
    made = engine_request("any", request).resources
    assert made["db"] == made["same"] == ResourceReference("database", {"host": "db"}, credentials_ref="login")
    assert made["cache"] == SharedName("main")


def test_a_reference_of_the_client_library_means_the_same_here() -> None:
    request = WorkflowRequest(
        resources={
            "db": torana.database(host="db.example", port=5432, credentials_ref="db", health_check_interval_s=30)
        }
    )
    assert engine_request("any", request).resources == {
        "db": ResourceReference(
            type="database",
            config={"host": "db.example", "port": 5432},
            credentials_ref="db",
            health_check_interval_s=30,
        )
    }


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ("main", "resources.db: a resource is an object"),
        (7, "resources.db: a resource is an object or '@name', not int"),
        ({"config": {}}, "resources.db.type: required"),
        ({"type": "database", "host": "x"}, "resources.db.host: unknown field"),
    ],
)
def test_what_is_no_resource_is_refused_with_its_name(binding: Any, said: str) -> None:
    with pytest.raises(ValueError, match="Resource") as caught:
        engine_request("any", WorkflowRequest(resources={"db": binding}))
    assert said in str(caught.value)


def test_a_value_that_cannot_be_stored_is_an_invalid_request_that_says_where() -> None:
    with pytest.raises(InvalidRequestError, match=r"parameters: the value at '/a'"):
        engine_request("any", WorkflowRequest(parameters={"a": object()}))


def test_a_plain_dict_is_no_request() -> None:
    request: Any = {"parameters": {}}
    with pytest.raises(InvalidRequestError, match="a WorkflowRequest, not str and dict"):
        engine_request("any", request)


@pytest.mark.parametrize(("timeout", "seconds"), [(2.5, 2.5), (timedelta(minutes=1), 60.0), (None, None)])
def test_a_timeout_is_seconds_or_a_timedelta(timeout: float | timedelta | None, seconds: float | None) -> None:
    assert engine_request("any", WorkflowRequest(timeout=timeout)).timeout_s == seconds
