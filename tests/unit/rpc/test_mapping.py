from __future__ import annotations

import string

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.v1 import execution_pb2, payload_pb2, workflow_pb2
from torana_server.core.clock import Micros
from torana_server.core.values import Payload
from torana_server.execution import (
    ExecutionError,
    ExecutionRequest,
    ExecutionState,
    ExecutionView,
    State,
    StepPhase,
    StepState,
    Summary,
)
from torana_server.execution.events import Accepted
from torana_server.rpc.checks import Checks, is_duration
from torana_server.rpc.mapping import (
    definition_from_message,
    definition_to_message,
    execution_to_message,
    request_of,
    secret_of,
    summary_to_message,
)
from torana_server.rpc.mapping.execution import STATES
from torana_server.workflow import Connection, Definition, Durability, RetryPolicy, Step, StepTimeout

NAMES = st.text(string.ascii_letters, min_size=1, max_size=8)
SECONDS = st.integers(0, 10**12).map(lambda micros: micros / 10**6)
NUMBERS = st.one_of(
    st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False).filter(lambda f: not f.is_integer())
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
RETRIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 100),
    initial_interval_s=SECONDS,
    backoff=st.floats(1, 10),
    max_interval_s=SECONDS,
    jitter=st.floats(0, 1),
    retry_on=st.lists(NAMES, max_size=2).map(tuple),
    never_retry_on=st.lists(NAMES, max_size=2).map(tuple),
)
STEPS = st.builds(
    Step,
    name=NAMES,
    type=NAMES,
    config=OBJECTS,
    inputs=OBJECTS,
    required_resources=st.lists(NAMES, max_size=2).map(tuple),
    credentials_ref=st.one_of(st.just(""), NAMES),
    retry=st.one_of(st.none(), RETRIES),
    timeout=st.builds(StepTimeout, attempt_s=SECONDS, total_s=st.one_of(st.none(), SECONDS)),
)
CONNECTIONS = st.builds(
    Connection, from_step=NAMES, to_step=NAMES, from_output=st.text(max_size=5), to_input=NAMES, route=NAMES
)
DEFINITIONS = st.builds(
    Definition,
    name=NAMES,
    steps=st.lists(STEPS, max_size=3).map(tuple),
    connections=st.lists(CONNECTIONS, max_size=3).map(tuple),
    description=st.text(max_size=10),
    labels=st.dictionaries(NAMES, st.text(max_size=5), max_size=2),
    timeout_s=st.one_of(st.none(), SECONDS),
    retry=RETRIES,
    durability=st.sampled_from(Durability),
    durability_steps=st.integers(1, 1_000),
)


@settings(max_examples=40)
@given(DEFINITIONS)
def test_a_definition_goes_over_the_wire_and_back_without_loss(definition) -> None:
    checks = Checks()
    wire = definition_to_message(definition).SerializeToString()
    assert definition_from_message(workflow_pb2.WorkflowDefinition.FromString(wire), checks) == definition
    assert checks.violations == []


def test_what_a_message_leaves_out_takes_the_documented_default() -> None:
    message = workflow_pb2.WorkflowDefinition(name="w", steps=[workflow_pb2.Step(name="s", type="code")])
    message.steps[0].retry.max_attempts = 3
    checks = Checks()
    definition = definition_from_message(message, checks)
    assert definition == Definition(
        name="w", steps=(Step(name="s", type="code", retry=RetryPolicy(max_attempts=3)),), timeout_s=None
    )
    assert definition.steps[0].timeout == StepTimeout(attempt_s=300.0)
    assert checks.violations == []


def test_a_jitter_of_nothing_is_not_the_default_one() -> None:
    message = workflow_pb2.WorkflowDefinition(name="w")
    message.retry.max_attempts = 2
    message.retry.jitter = 0
    assert definition_from_message(message, Checks()).retry.jitter == 0


@pytest.mark.parametrize(
    ("seconds", "nanos", "good"),
    [(0, 0, True), (1, 5, True), (-1, -5, True), (0, -5, True), (1, -1, False), (-1, 1, False), (0, 10**9, False),
     (315_576_000_001, 0, False)],
)  # fmt: skip
def test_a_duration_has_one_sign_and_its_range(seconds, nanos, good) -> None:
    assert is_duration(Duration(seconds=seconds, nanos=nanos)) is good


def test_a_request_with_a_wrong_form_is_told_what_else_is_wrong() -> None:
    message = execution_pb2.WorkflowRequest(workflow="no name", timeout=Duration(seconds=-1))
    checks = Checks()
    request_of(message, checks)
    assert [violation.path for violation in checks.violations] == ["request.timeout", "request.workflow"]


def test_nothing_of_a_secret_that_cannot_be_read_is_quoted() -> None:
    for text in ("hunter2", '{"a": hunter2}', '{"hunter2": 1, "hunter2": 2}', '{"a": 1e999}', '"hunter2"'):
        checks = Checks()
        secret_of(payload_pb2.Payload(json=text), checks, "value")
        assert [violation.path for violation in checks.violations] == ["value"]
        assert "hunter2" not in str(checks.violations)


SUMMARY = Summary(
    execution="01900000-0000-7000-8000-000000000000",
    tenant="local",
    workflow="etl",
    revision="f" * 64,
    state=ExecutionState.RUNNING,
    create_time=Micros(1_000_000),
    latest_sequence=3,
    labels={"team": "a"},
    session_id="s",
    idempotency_key="k",
    retry_of="r",
)
ERROR = ExecutionError(type="ValueError", message="no", reason="STEP_FAILED", step="b", attempt=2)


def state_of(**steps: StepState) -> State:
    accepted = Accepted(ExecutionRequest(workflow="etl"), "f" * 64, "local", "local")
    return State(
        accepted, ExecutionState.FAILED, 9, Micros(9), Micros(2_000_000), Micros(9_000_000), steps, error=ERROR
    )


def test_every_state_has_its_name_on_the_wire() -> None:
    assert {execution_pb2.ExecutionState.Name(STATES[state]) for state in ExecutionState} == {
        f"EXECUTION_STATE_{state}" for state in ExecutionState
    }


def test_a_summary_shows_what_lists_promise() -> None:
    message = summary_to_message(SUMMARY)
    assert (message.id, message.workflow, message.retry_of) == (SUMMARY.execution, "etl", "r")
    assert not message.HasField("start_time")
    blocked = summary_to_message(SUMMARY, "nobody has its step types")
    assert blocked.state == execution_pb2.EXECUTION_STATE_BLOCKED
    assert blocked.blocked_reason == "nobody has its step types"


def test_the_journals_state_is_nearer_than_the_summary() -> None:
    message = execution_to_message(ExecutionView(SUMMARY, state_of(), retried_as="later"))
    assert message.state == execution_pb2.EXECUTION_STATE_FAILED
    assert (message.latest_sequence, message.end_time.seconds, message.retried_as) == (9, 9, "later")
    assert message.error.type == "ValueError"


def test_steps_come_in_their_order_and_those_untouched_are_pending() -> None:
    view = ExecutionView(
        SUMMARY,
        state_of(
            b=StepState(StepPhase.WAITING, 2, error=ERROR, first_start=Micros(1), next_attempt=Micros(7_000_000)),
            a=StepState(StepPhase.COMPLETED, 1, output=Payload("41"), output_sequence=4, next_attempt=Micros(5)),
            gone=StepState(StepPhase.INTERRUPTED, 1),
        ),
    )
    message = execution_to_message(view, ["a", "b", "c"])
    pb = execution_pb2
    assert [(s.step, s.state) for s in message.steps] == [
        ("a", pb.STEP_STATE_COMPLETED),
        ("b", pb.STEP_STATE_WAITING),
        ("c", pb.STEP_STATE_PENDING),
        ("gone", pb.STEP_STATE_WAITING),
    ]
    assert [s.HasField("next_attempt_time") for s in message.steps] == [False, True, False, False]
    assert message.steps[1].next_attempt_time.seconds == 7
    assert {step: payload.json for step, payload in message.result.items()} == {"a": "41"}


def test_an_execution_without_events_shows_its_summary() -> None:
    assert execution_to_message(ExecutionView(SUMMARY, None)) == summary_to_message(SUMMARY)
