"""Messages to and from native values, references and requests."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

import torana
from torana import _native, _types
from torana._references import binding
from torana._requests import event_filter, workflow_request
from torana._struct import struct_from_native, struct_to_native
from torana.errors import InvalidRequestError
from torana.v1 import event_pb2, execution_pb2, payload_pb2, resource_pb2, workflow_pb2


@pytest.mark.parametrize("message", _native._CLASSES)
def test_a_native_class_has_the_fields_of_its_message(message: type) -> None:
    names = [field.name for field in dataclasses.fields(_native._CLASSES[message])]
    assert names == list(message.DESCRIPTOR.fields_by_name)  # type: ignore[attr-defined]  # every message has one


def test_event_kinds_have_the_numbers_of_their_fields() -> None:
    assert set(_native.EVENT_KINDS.values()) == set(event_pb2.EventKind.values()) - {0}
    assert set(_types.TERMINAL_KINDS) <= set(_native.EVENT_KINDS)


def test_an_event_reads_as_native_values() -> None:
    message = event_pb2.ExecutionEvent(execution="e", sequence=7, step="load", attempt=2)
    message.time.FromDatetime(datetime(2026, 1, 15, 12, 0, 0, 250, tzinfo=UTC))
    message.step_failed.error.type = "ValueError"
    message.step_failed.error.cause.message = "deeper"
    event = _native.event(message)
    assert (event.execution, event.sequence, event.step, event.attempt) == ("e", 7, "load", 2)
    assert event.time == datetime(2026, 1, 15, 12, 0, 0, 250, tzinfo=UTC)
    assert event.kind == "step_failed"
    assert event.data["handled"] is False
    assert event.data["error"].type == "ValueError"
    assert event.data["error"].cause.message == "deeper"
    assert event.data["error"].cause.cause is None


def test_a_kind_from_a_newer_server_is_passed_on() -> None:
    # Field 99 of ExecutionEvent, a message of zero bytes.
    message = event_pb2.ExecutionEvent.FromString(
        event_pb2.ExecutionEvent(sequence=3).SerializeToString() + b"\x9a\x06\x00"
    )
    event = _native.event(message)
    assert (event.kind, event.sequence, dict(event.data)) == ("unknown", 3, {})
    assert event.proto.SerializeToString().endswith(b"\x9a\x06\x00")


def test_an_execution_reads_as_native_values() -> None:
    message = execution_pb2.Execution(id="e", state=execution_pb2.EXECUTION_STATE_FAILED, labels={"team": "a"})
    message.result["load"].CopyFrom(payload_pb2.Payload(json="[1]"))
    message.steps.add(step="load", state=execution_pb2.STEP_STATE_COMPLETED)
    execution = _native.to_native(message)
    assert execution.is_finished
    assert execution.state == "failed"
    assert execution.labels == {"team": "a"}
    assert execution.result == {"load": [1]}
    assert execution.steps[0].state == "completed"
    assert execution.create_time is None


def test_a_definition_is_written_by_the_names_of_its_fields() -> None:
    message = _native.from_native(
        workflow_pb2.WorkflowDefinition,
        {
            "name": "etl",
            "labels": {"team": "a"},
            "timeout_s": 1.5,
            "durability": "every_n_steps",
            "retry": {"max_attempts": 3, "initial_interval": timedelta(seconds=2), "retry_on": ["OSError"]},
            "steps": [
                {"name": "load", "type": "code", "config": {"code": "return 1", "n": 3}, "timeout": {"attempt_s": 9}}
            ],
            "connections": [{"from_step": "load", "to_step": "save"}],
        },
        "",
    )
    assert message.timeout.ToTimedelta() == timedelta(seconds=1.5)
    assert message.durability == workflow_pb2.DURABILITY_EVERY_N_STEPS
    assert message.retry.initial_interval.seconds == 2
    assert message.steps[0].config["n"] == 3
    assert message.steps[0].timeout.attempt.seconds == 9
    assert _native.to_native(message)["steps"][0]["config"] == {"code": "return 1", "n": 3}


@pytest.mark.parametrize(
    ("definition", "path", "message"),
    [
        ({"steps": [{}, {"nmae": "x"}]}, "steps[1].nmae", "there are name, type"),
        ({"steps": "load"}, "steps", "must be a list, not str"),
        ({"durability": "sometimes"}, "durability", "'sometimes' is not one of every_step"),
        ({"timeout_s": "soon"}, "timeout_s", "must be seconds or a timedelta, not str"),
        ({"name": 3}, "name", "does not fit"),
        ({"steps": [{"config": {"ids": [2**53 + 1]}}]}, "steps[0].config.ids[0]", "would lose digits"),
        ({"name_s": 3}, "name_s", "is not a field here"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(definition: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        _native.from_native(workflow_pb2.WorkflowDefinition, definition, "")
    assert [violation.path for violation in caught.value.violations] == [path]


def test_a_struct_keeps_integers_that_a_double_holds() -> None:
    value = {"port": 5432, "ratio": 0.5, "max": 2**53, "list": [1, None, True, "x", {"y": -1}]}
    assert struct_to_native(struct_from_native(value, "config")) == value
    assert isinstance(struct_to_native(struct_from_native(value, "config"))["port"], int)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, float("nan"), float("inf")])
def test_a_struct_refuses_numbers_it_would_change(number: float) -> None:
    with pytest.raises(InvalidRequestError, match=r"config\.n: "):
        struct_from_native({"n": number}, "config")


def test_references_come_in_three_forms() -> None:
    made = torana.database(host="db", database="app", credentials_ref="db_creds", max_size=5)
    assert made == torana.ResourceReference(
        type="database", config={"host": "db", "database": "app", "max_size": 5}, credentials_ref="db_creds"
    )
    written = {"type": "database", "config": dict(made.config), "credentials_ref": "db_creds"}
    assert binding(made, "resources.db") == binding(written, "resources.db")
    assert binding("@main_db", "resources.db") == resource_pb2.ResourceBinding(shared="main_db")


def test_reference_makers_name_their_types() -> None:
    http = torana.http_client(base_url="https://api.example.com", credentials_key="stripe")
    assert (http.type, http.config, http.credentials_key) == (
        "http_client",
        {"base_url": "https://api.example.com"},
        "stripe",
    )
    assert torana.cache(host="cache", port=6379, db=2).config == {"host": "cache", "port": 6379, "db": 2}


@pytest.mark.parametrize("bound", ["main_db", "@", 7, "postgres://app:hunter2@db/app"])
def test_a_binding_of_another_form_is_refused_without_repeating_it(bound: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"resources\.db: must be a ResourceReference") as caught:
        binding(bound, "resources.db")  # type: ignore[arg-type]  # the mistake at hand
    assert "hunter2" not in str(caught.value)


def test_a_request_holds_all_its_options() -> None:
    request = workflow_request(
        "etl",
        {"since": datetime(2026, 1, 1, tzinfo=UTC)},
        {
            "resources": {"db": "@main"},
            "context": {"user": "ada"},
            "revision": "r1",
            "idempotency_key": "k",
            "timeout": 90,
            "labels": {"team": "a"},
            "session_id": "s",
            "cancel_on_disconnect": True,
            "disconnect_grace": timedelta(seconds=5),
        },
    )
    assert request.parameters.types == {"/since": "datetime"}
    assert request.context.json == '{"user":"ada"}'
    assert request.resources["db"].shared == "main"
    assert (request.workflow, request.revision, request.idempotency_key) == ("etl", "r1", "k")
    assert (request.timeout.seconds, request.disconnect_grace.seconds) == (90, 5)
    assert (request.labels["team"], request.session_id, request.cancel_on_disconnect) == ("a", "s", True)


def test_a_request_always_has_an_idempotency_key() -> None:
    choices: list[torana.RequestOptions] = [{}, {"idempotency_key": None}]
    keys = {workflow_request("etl", None, options).idempotency_key for options in choices}
    assert len(keys) == 2
    assert "" not in keys


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected option 'paramters'"):
        workflow_request("etl", None, {"paramters": {}})  # type: ignore[typeddict-unknown-key]  # the mistake at hand


def test_filters_name_the_kinds_there_are() -> None:
    assert list(event_filter(["step_completed"], ["load"]).kinds) == [event_pb2.EVENT_KIND_STEP_COMPLETED]
    with pytest.raises(InvalidRequestError, match="'step_done' is no kind of event; there are accepted, started"):
        event_filter(["step_done"], [])
    with pytest.raises(InvalidRequestError, match="kinds: must be several names"):
        event_filter("failed", [])
