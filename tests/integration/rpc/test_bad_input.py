"""Every RPC against what it must refuse. An RPC without rows fails the first test."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value

from integration.rpc.parts import Parts
from integration.rpc.problems import Problem, problem_of
from torana.v1 import execution_service_pb2, resource_service_pb2, secret_service_pb2, workflow_service_pb2
from torana_server.rpc.frames import varint
from torana_server.rpc.registration import SERVICES

# The messages take dicts for messages, which the stubs do not say.
ex: Any = execution_service_pb2
rs: Any = resource_service_pb2
sc: Any = secret_service_pb2
wf: Any = workflow_service_pb2

INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
TOKEN = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
FILTER = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FILTER")
TOO_LARGE = (grpc.StatusCode.INVALID_ARGUMENT, "VALUE_TOO_LARGE")
UNSUPPORTED = (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED")
UNBOUND = (grpc.StatusCode.FAILED_PRECONDITION, "RESOURCE_NOT_BOUND")
NO_EXECUTION = (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
NO_WORKFLOW = (grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")
NO_RESOURCE = (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
NO_SECRET = (grpc.StatusCode.NOT_FOUND, "SECRET_NOT_FOUND")
NO_STEP_TYPE = (grpc.StatusCode.NOT_FOUND, "STEP_TYPE_NOT_FOUND")

UNKNOWN_ID = "01900000-0000-7000-8000-000000000000"
BAD_KIND = 9


@dataclass(frozen=True, slots=True)
class Row:
    """What is wrong, the request, the answer's code and reason, and the fields it names."""

    what: str
    request: Any
    answer: tuple[grpc.StatusCode, str]
    fields: tuple[str, ...] = ()


def deep_json(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def deep_value_request(levels: int) -> bytes:
    """ExecuteRequest or StartExecutionRequest; the classes refuse to build what they refuse to read."""
    value = b"\x11" + b"\0" * 8
    for _ in range(levels):
        value = _field(5, _field(1, _field(1, b"a") + _field(2, value)))
    return _field(1, _field(1, b"adds") + _field(3, _field(2, value)))


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + varint(len(content)) + content


NAN = Value(struct_value=Struct(fields={"x": Value(number_value=float("nan"))}))


def requests_of(make: Any) -> list[Row]:
    """What both Execute and StartExecution must refuse in a WorkflowRequest."""

    def row(what: str, answer: tuple[grpc.StatusCode, str], *fields: str, **request: Any) -> Row:
        return Row(what, make(request={"workflow": "adds", **request}), answer, fields)

    def reference(**fields: Any) -> dict[str, Any]:
        return {"db": {"reference": {"type": "database", **fields}}}

    return [
        Row("missing", make(), INVALID, ("request", "request.workflow")),
        row("no workflow", INVALID, "request.workflow", workflow=""),
        row("not a name", INVALID, "request.workflow", workflow="../etc"),
        row("unknown workflow", NO_WORKFLOW, workflow="nobody"),
        row("unknown revision", NO_WORKFLOW, revision="f" * 64),
        row("not JSON", INVALID, "request.parameters", parameters={"json": "{"}),
        row("not an object", INVALID, "request.parameters", parameters={"json": "[1]"}),
        row("NaN in JSON", INVALID, "request.parameters", parameters={"json": '{"a": NaN}'}),
        row("a key twice", INVALID, "request.parameters", parameters={"json": '{"a": 1, "a": 2}'}),
        row("JSON too deep", INVALID, "request.parameters", parameters={"json": deep_json(101)}),
        row("JSON absurdly deep", INVALID, "request.parameters", parameters={"json": deep_json(20_000)}),
        Row("Value too deep", deep_value_request(60), INVALID, ("",)),
        row("NaN in a Value", INVALID, "request.parameters", parameters={"value": NAN}),
        row("no content", INVALID, "request.context", context={}),
        row("context no object", INVALID, "request.context", context={"json": "null"}),
        row("an unknown type", INVALID, "request.parameters/x", parameters={"json": '{"x": 1}', "types": {"/x": "?"}}),
        row("a blob", UNSUPPORTED, "request.parameters", parameters={"blob": {"sha256": "0"}}),
        row("too large", TOO_LARGE, "request.parameters", parameters={"json": '{"a":"' + "x" * 300_000 + '"}'}),
        row("key too long", INVALID, "request.idempotency_key", idempotency_key="k" * 257),
        row("session too long", INVALID, "request.session_id", session_id="k" * 257),
        row("label not a name", INVALID, "request.labels['a b']", labels={"a b": "1"}),
        row("negative timeout", INVALID, "request.timeout", timeout=Duration(seconds=-1)),
        row("zero timeout", INVALID, "request.timeout", timeout=Duration()),
        row("no duration", INVALID, "request.timeout", timeout=Duration(seconds=1, nanos=-1)),
        row("endless timeout", INVALID, "request.timeout", timeout=Duration(seconds=2**62)),
        row("long grace", INVALID, "request.disconnect_grace", disconnect_grace=Duration(seconds=10**6)),
        row("empty binding", INVALID, "request.resources['db']", resources={"db": {}}),
        row("empty shared name", INVALID, "request.resources['db'].shared", resources={"db": {"shared": ""}}),
        row("no type", INVALID, "request.resources['db'].reference.type", resources={"db": {"reference": {}}}),
        row(
            "NaN in config",
            INVALID,
            "request.resources['db'].reference.config.x",
            resources=reference(config=NAN.struct_value),
        ),
        row(
            "no interval",
            INVALID,
            "request.resources['db'].reference.health_check_interval",
            resources=reference(health_check_interval=Duration(seconds=-5)),
        ),
        row("unknown shared name", NO_RESOURCE, resources={"db": {"shared": "nobody"}}),
        row("required resource not bound", UNBOUND, workflow="needs_db"),
        row(
            "everything at once",
            INVALID,
            "request.resources['db']",
            "request.timeout",
            "request.workflow",
            "request.idempotency_key",
            workflow="?",
            timeout=Duration(seconds=-1),
            resources={"db": {}},
            idempotency_key="k" * 257,
        ),
    ]


def streams_of(make: Any) -> list[Row]:
    """What Execute and WatchExecution must refuse of a stream."""
    return [
        Row("negative sequence", make(after_sequence=-1), INVALID, ("after_sequence",)),
        Row("unknown kind", make(filter={"kinds": [BAD_KIND]}), INVALID, ("filter.kinds",)),
        Row("unspecified kind", make(filter={"kinds": [0]}), INVALID, ("filter.kinds",)),
        Row("step not a name", make(filter={"steps": ["ok", "not ok"]}), INVALID, ("filter.steps[1]",)),
        *heartbeats_of(make),
    ]


def heartbeats_of(make: Any) -> list[Row]:
    intervals = [Duration(), Duration(nanos=999_999_999), Duration(seconds=61), Duration(seconds=-15)]
    return [
        Row(
            f"heartbeat of {interval.seconds}.{interval.nanos:09} s",
            make(heartbeat_interval=interval),
            INVALID,
            ("heartbeat_interval",),
        )
        for interval in intervals
    ]


def executions_of(make: Any) -> list[Row]:
    return [
        Row("missing", make(), INVALID, ("execution",)),
        Row("not an id", make(execution="1"), INVALID, ("execution",)),
        Row("unknown", make(execution=UNKNOWN_ID), NO_EXECUTION),
    ]


def names_of(make: Any, unknown: tuple[grpc.StatusCode, str]) -> list[Row]:
    return [
        Row("missing", make(), INVALID, ("name",)),
        Row("not a name", make(name="a/b"), INVALID, ("name",)),
        Row("unknown", make(name="nobody"), unknown),
    ]


def pages_of(make: Any) -> list[Row]:
    return [
        Row("negative size", make(page_size=-1), INVALID, ("page_size",)),
        Row("size too large", make(page_size=1_001), INVALID, ("page_size",)),
        Row("foreign token", make(page_token="bm9ib2R5"), TOKEN, ("page_token",)),
        Row("no token", make(page_token="§"), TOKEN, ("page_token",)),
    ]


def _execute(**fields: Any) -> Any:
    return ex.ExecuteRequest(**{"request": {"workflow": "adds"}, **fields})


def _watch(**fields: Any) -> Any:
    return ex.WatchExecutionRequest(**{"execution": UNKNOWN_ID, **fields})


def _secret(value: Any) -> Any:
    return sc.PutSecretRequest(name="creds", value=value)


NO_ARGUMENTS: frozenset[str] = frozenset(
    {"SecretService/RotateKeys", "SystemService/GetInfo", "SystemService/GetHealth", "SystemService/GetStats"}
)

ROWS: dict[str, list[Row]] = {
    "ExecutionService/Execute": requests_of(ex.ExecuteRequest) + streams_of(_execute),
    "ExecutionService/StartExecution": requests_of(ex.StartExecutionRequest),
    "ExecutionService/WatchExecution": executions_of(ex.WatchExecutionRequest) + streams_of(_watch),
    "ExecutionService/WatchExecutions": [
        Row("foreign cursor", ex.WatchExecutionsRequest(cursor="7"), TOKEN, ("cursor",)),
        Row("bad filter", ex.WatchExecutionsRequest(filter="workflow ~ x"), FILTER, ("filter",)),
        Row("field not watched", ex.WatchExecutionsRequest(filter="state = FAILED"), FILTER, ("filter",)),
        Row("unknown kind", ex.WatchExecutionsRequest(kinds=[BAD_KIND]), INVALID, ("kinds",)),
        *heartbeats_of(ex.WatchExecutionsRequest),
    ],
    "ExecutionService/GetExecution": executions_of(ex.GetExecutionRequest),
    "ExecutionService/ListExecutions": [
        *pages_of(ex.ListExecutionsRequest),
        Row("bad filter", ex.ListExecutionsRequest(filter="owner = me"), FILTER, ("filter",)),
    ],
    "ExecutionService/CancelExecution": [
        *executions_of(ex.CancelExecutionRequest),
        Row("long reason", ex.CancelExecutionRequest(execution=UNKNOWN_ID, reason="x" * 1_001), INVALID, ("reason",)),
    ],
    "ExecutionService/RetryExecution": [
        *executions_of(ex.RetryExecutionRequest),
        Row(
            "long key",
            ex.RetryExecutionRequest(execution="?", idempotency_key="x" * 257),
            INVALID,
            ("execution", "idempotency_key"),
        ),
    ],
    "WorkflowService/GetWorkflow": [
        *names_of(wf.GetWorkflowRequest, NO_WORKFLOW),
        Row("long revision", wf.GetWorkflowRequest(name="adds", revision="f" * 65), INVALID, ("revision",)),
        Row("unknown revision", wf.GetWorkflowRequest(name="adds", revision="f" * 64), NO_WORKFLOW),
    ],
    "WorkflowService/ListWorkflows": pages_of(wf.ListWorkflowsRequest),
    "WorkflowService/ValidateWorkflow": [
        Row("missing", wf.ValidateWorkflowRequest(), INVALID, ("definition",)),
        Row(
            "too large",
            wf.ValidateWorkflowRequest(definition={"name": "big", "description": "x" * 1_100_000}),
            INVALID,
            ("definition",),
        ),
    ],
    "WorkflowService/ListStepTypes": pages_of(wf.ListStepTypesRequest),
    "WorkflowService/GetStepType": names_of(wf.GetStepTypeRequest, NO_STEP_TYPE),
    "ResourceService/ListResources": pages_of(rs.ListResourcesRequest),
    "ResourceService/GetResource": names_of(rs.GetResourceRequest, NO_RESOURCE),
    "ResourceService/CheckResource": names_of(rs.CheckResourceRequest, NO_RESOURCE),
    "ResourceService/DrainResource": names_of(rs.DrainResourceRequest, NO_RESOURCE),
    "ResourceService/ListResourceTypes": pages_of(rs.ListResourceTypesRequest),
    "SecretService/PutSecret": [
        Row("missing", sc.PutSecretRequest(), INVALID, ("name", "value")),
        Row("not a name", sc.PutSecretRequest(name="a b", value={"json": "{}"}), INVALID, ("name",)),
        Row("not JSON", _secret({"json": "hunter2"}), INVALID, ("value",)),
        Row("not an object", _secret({"json": '"hunter2"'}), INVALID, ("value",)),
        Row("too deep", _secret({"json": deep_json(101)}), INVALID, ("value",)),
        Row("a key twice", _secret({"json": '{"hunter2": 1, "hunter2": 2}'}), INVALID, ("value",)),
        Row("NaN", _secret({"value": NAN}), INVALID, ("value",)),
        Row("with types", _secret({"json": "{}", "types": {"/a": "bytes"}}), INVALID, ("value",)),
        Row("a blob", _secret({"blob": {"sha256": "0"}}), INVALID, ("value",)),
        Row("too large", _secret({"json": '{"a":"' + "x" * 70_000 + '"}'}), TOO_LARGE),
    ],
    "SecretService/GetSecret": names_of(sc.GetSecretRequest, NO_SECRET),
    "SecretService/ListSecrets": pages_of(sc.ListSecretsRequest),
    "SecretService/ListSecretVersions": [
        *names_of(sc.ListSecretVersionsRequest, NO_SECRET),
        *pages_of(functools.partial(sc.ListSecretVersionsRequest, name="creds")),
    ],
    "SecretService/DeleteSecret": names_of(sc.DeleteSecretRequest, NO_SECRET),
}

ALL = [f"{name}/{method.name}" for name, service in SERVICES.items() for method in service.methods]


async def refused(parts: Parts, rpc: str, request: Any) -> Problem:
    service, _, name = rpc.partition("/")
    streams = SERVICES[service].methods_by_name[name].server_streaming
    return await problem_of(parts.stream(rpc, request) if streams else parts.call(rpc, request))


def test_every_rpc_has_rows_or_takes_no_arguments() -> None:
    assert {rpc for rpc in ALL if not ROWS.get(rpc)} == NO_ARGUMENTS
    assert set(ROWS) <= set(ALL)


@pytest.mark.parametrize("rpc", sorted(NO_ARGUMENTS))
def test_rpcs_listed_as_taking_no_arguments_take_none(rpc) -> None:
    service, _, name = rpc.partition("/")
    assert not SERVICES[service].methods_by_name[name].input_type.fields


@pytest.mark.parametrize("rpc", ROWS)
async def test_a_bad_request_gets_its_code_its_reason_and_every_violated_field(parts: Parts, rpc) -> None:
    wrong = {}
    for row in ROWS[rpc]:
        problem = await refused(parts, rpc, row.request)
        if ((problem.code, problem.reason), tuple(problem.fields)) != (row.answer, row.fields):
            wrong[row.what] = problem
        assert problem.request_id == problem.trailers["x-request-id"]
        assert "hunter2" not in str(problem)
    assert not wrong


@pytest.mark.parametrize("rpc", ALL)
async def test_bytes_that_are_no_message_are_an_invalid_request(parts: Parts, rpc) -> None:
    problem = await refused(parts, rpc, b"\xff\xff\xff")
    assert (problem.code, problem.reason) == INVALID


@pytest.mark.parametrize("rpc", ALL)
async def test_a_request_above_the_message_limit_is_refused_by_grpc(parts: Parts, rpc) -> None:
    problem = await refused(parts, rpc, b"x" * (4 * 1024 * 1024 + 1))
    assert problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert problem.retry_after_s is None, "it would come again for ever"


async def test_a_filter_error_says_where(parts: Parts) -> None:
    problem = await refused(parts, "ExecutionService/ListExecutions", ex.ListExecutionsRequest(filter="state ="))
    assert problem.metadata == {"position": "7"}


async def test_what_is_missing_is_named(parts: Parts) -> None:
    problem = await refused(parts, "WorkflowService/GetWorkflow", wf.GetWorkflowRequest(name="nobody"))
    assert problem.resource == ("torana.v1.Workflow", "nobody")
    problem = await refused(parts, "WorkflowService/GetStepType", wf.GetStepTypeRequest(name="nobody"))
    assert problem.resource == ("torana.v1.StepType", "nobody")


async def test_a_precondition_names_its_subject(parts: Parts) -> None:
    request = ex.StartExecutionRequest(request={"workflow": "needs_db"})
    problem = await refused(parts, "ExecutionService/StartExecution", request)
    assert problem.metadata == {"resources": "db"}
    assert problem.subjects == ["db"]


async def test_a_refused_execute_starts_nothing(parts: Parts) -> None:
    for row in ROWS["ExecutionService/Execute"]:
        await refused(parts, "ExecutionService/Execute", row.request)
    assert (await parts.call("ExecutionService/ListExecutions", ex.ListExecutionsRequest())).executions == []


async def test_more_violations_than_fit_are_counted(parts: Parts) -> None:
    steps = ["not ok " + "x" * 100] * 500
    problem = await refused(parts, "ExecutionService/WatchExecution", _watch(filter={"steps": steps}))
    assert 10 < len(problem.fields) < 100
    assert problem.descriptions[-1] == f"and {500 - len(problem.fields) + 1} more; correct these first"


async def test_values_in_the_wrong_state_say_so(parts: Parts) -> None:
    finished = (await parts.run("adds", parameters={"json": '{"number": 1}'}))[0].opened.execution
    problem = await refused(parts, "ExecutionService/CancelExecution", ex.CancelExecutionRequest(execution=finished))
    assert (problem.code, problem.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_FINISHED")
    assert problem.metadata == {"execution": finished, "state": "COMPLETED"}
    problem = await refused(parts, "ExecutionService/RetryExecution", ex.RetryExecutionRequest(execution=finished))
    assert (problem.code, problem.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_FINISHED")
    request = ex.WatchExecutionRequest(execution=finished, after_sequence=99)
    problem = await refused(parts, "ExecutionService/WatchExecution", request)
    assert (problem.code, problem.reason) == (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE")
    assert problem.metadata == {"latestSequence": "7"}
