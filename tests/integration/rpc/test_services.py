"""What every RPC answers when nothing is wrong."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from integration.rpc.parts import START, Parts, pb, serving
from integration.rpc.problems import problem_of
from torana.v1 import (
    execution_pb2,
    resource_pb2,
    resource_service_pb2,
    secret_service_pb2,
    system_service_pb2,
    workflow_pb2,
    workflow_service_pb2,
)
from torana_server.adapters.wire.messages import timestamp
from torana_server.resources import ResourceReference
from torana_server.rpc import RpcSettings

# The messages take dicts for messages, which the stubs do not say.
rs: Any = resource_service_pb2
sc: Any = secret_service_pb2
sy: Any = system_service_pb2
wf: Any = workflow_service_pb2

TWENTY = {"json": '{"number": 20}'}
REFERENCE = ResourceReference("database", {"host": "db.example.com", "port": 5432, "database": "app"}, "creds")


async def test_get_execution_shows_result_and_every_step(parts: Parts) -> None:
    execution = (await parts.run("adds", parameters=TWENTY, session_id="s"))[0].opened.execution
    request = pb.GetExecutionRequest(execution=execution)
    found = (await parts.call("ExecutionService/GetExecution", request)).execution
    assert (found.id, found.workflow, found.session_id) == (execution, "adds", "s")
    assert found.state == execution_pb2.EXECUTION_STATE_COMPLETED
    assert found.latest_sequence == 7
    assert {step: payload.json for step, payload in found.result.items()} == {
        "double": '{"n":40}',
        "add_one": '{"n":41}',
    }
    assert [(s.step, s.state, s.attempt) for s in found.steps] == [
        ("double", execution_pb2.STEP_STATE_COMPLETED, 1),
        ("add_one", execution_pb2.STEP_STATE_COMPLETED, 1),
    ]
    assert found.create_time.ToMicroseconds() <= found.start_time.ToMicroseconds() <= found.end_time.ToMicroseconds()


async def test_start_cancel_and_retry_an_execution(parts: Parts) -> None:
    wanted = {"workflow": "waits", "idempotency_key": "k"}
    started = await parts.call("ExecutionService/StartExecution", pb.StartExecutionRequest(request=wanted))
    again = await parts.call("ExecutionService/StartExecution", pb.StartExecutionRequest(request=wanted))
    assert (started.attached, again.attached, again.execution.id) == (False, True, started.execution.id)
    await parts.gates.running.wait()
    request = pb.GetExecutionRequest(execution=started.execution.id)
    running = (await parts.call("ExecutionService/GetExecution", request)).execution
    assert [(s.step, s.state) for s in running.steps] == [("wait", execution_pb2.STEP_STATE_RUNNING)]
    problem = await problem_of(
        parts.call("ExecutionService/RetryExecution", pb.RetryExecutionRequest(execution=started.execution.id))
    )
    assert problem.reason == "EXECUTION_NOT_FINISHED"
    cancel = pb.CancelExecutionRequest(execution=started.execution.id, reason="no longer needed")
    await parts.call("ExecutionService/CancelExecution", cancel)
    watch = pb.WatchExecutionRequest(execution=started.execution.id)
    frames = [m.frame async for m in parts.stream("ExecutionService/WatchExecution", watch)]
    assert frames[-1].end.state == execution_pb2.EXECUTION_STATE_CANCELLED
    retry = pb.RetryExecutionRequest(execution=started.execution.id, idempotency_key="k2")
    retried = (await parts.call("ExecutionService/RetryExecution", retry)).execution
    assert (retried.retry_of, retried.idempotency_key) == (started.execution.id, "k2")
    old = (await parts.call("ExecutionService/GetExecution", request)).execution
    assert old.retried_as == retried.id


async def test_a_step_that_nothing_has_touched_is_pending(parts: Parts) -> None:
    wanted = pb.StartExecutionRequest(request={"workflow": "waits_then_ends"})
    started = await parts.call("ExecutionService/StartExecution", wanted)
    request = pb.GetExecutionRequest(execution=started.execution.id)
    steps = (await parts.call("ExecutionService/GetExecution", request)).execution.steps
    assert [(s.step, s.state, s.attempt) for s in steps][1] == ("end", execution_pb2.STEP_STATE_PENDING, 0)


async def test_a_failed_execution_shows_its_error(parts: Parts) -> None:
    execution = (await parts.run("fails"))[0].opened.execution
    found = (await parts.call("ExecutionService/GetExecution", pb.GetExecutionRequest(execution=execution))).execution
    assert (found.error.type, found.error.message, found.error.step) == ("ValueError", "no", "boom")
    assert found.steps[0].error.type == "ValueError"


async def test_listing_executions_goes_through_all_newest_first_page_by_page(parts: Parts) -> None:
    ids = [(await parts.run("adds", parameters=TWENTY))[0].opened.execution for _ in range(5)]
    await parts.run("fails")
    where = 'workflow = "adds"'
    seen: list[str] = []
    token = ""
    for size in (2, 2, 1):
        request = pb.ListExecutionsRequest(page_size=2, page_token=token, filter=where)
        page = await parts.call("ExecutionService/ListExecutions", request)
        assert len(page.executions) == size
        assert all(not found.result and not found.steps for found in page.executions)
        seen += [found.id for found in page.executions]
        token = page.next_page_token
    assert not token
    assert seen == ids[::-1]


async def test_a_page_token_is_of_no_use_for_another_filter(parts: Parts) -> None:
    for _ in range(2):
        await parts.run("fails")
    page = await parts.call("ExecutionService/ListExecutions", pb.ListExecutionsRequest(page_size=1))
    request = pb.ListExecutionsRequest(page_token=page.next_page_token, filter="state = FAILED")
    assert (await problem_of(parts.call("ExecutionService/ListExecutions", request))).reason == "INVALID_PAGE_TOKEN"


async def test_a_page_is_cut_where_the_message_would_become_too_large() -> None:
    async with serving(RpcSettings(address="127.0.0.1:0", message_bytes_max=64 * 1024)) as parts:
        labels = {f"label{i}": "x" * 250 for i in range(60)}
        for _ in range(6):
            await parts.run("fails", labels=labels)
        first = await parts.call("ExecutionService/ListExecutions", pb.ListExecutionsRequest())
        assert len(first.executions) == 3
        rest = pb.ListExecutionsRequest(page_token=first.next_page_token)
        assert len((await parts.call("ExecutionService/ListExecutions", rest)).executions) == 3


async def test_an_answer_above_the_message_limit_says_so() -> None:
    async with serving(RpcSettings(address="127.0.0.1:0", message_bytes_max=64 * 1024)) as parts:
        started = await parts.call(
            "ExecutionService/StartExecution",
            pb.StartExecutionRequest(request={"workflow": "repeats", "parameters": {"json": '{"times": 100000}'}}),
        )
        watch = pb.WatchExecutionRequest(execution=started.execution.id, filter={"kinds": [26]})
        assert [m async for m in parts.stream("ExecutionService/WatchExecution", watch)]
        request = pb.GetExecutionRequest(execution=started.execution.id)
        problem = await problem_of(parts.call("ExecutionService/GetExecution", request))
        assert problem.reason == "VALUE_TOO_LARGE"
        assert problem.metadata["limitBytes"] == "65536"


async def test_workflows_are_listed_without_and_read_with_their_definition(parts: Parts) -> None:
    listed = (await parts.call("WorkflowService/ListWorkflows", wf.ListWorkflowsRequest())).workflows
    assert [one.name for one in listed] == ["adds", "fails", "needs_db", "repeats", "waits", "waits_then_ends"]
    assert not any(one.HasField("definition") for one in listed)
    found = (await parts.call("WorkflowService/GetWorkflow", wf.GetWorkflowRequest(name="adds"))).workflow
    assert (found.description, dict(found.metadata)) == ("Doubles and adds one.", {"owner": "tests"})
    assert [step.name for step in found.definition.steps] == ["double", "add_one"]
    request = wf.GetWorkflowRequest(name="adds", revision=found.revision)
    assert (await parts.call("WorkflowService/GetWorkflow", request)).workflow == found
    needs = (await parts.call("WorkflowService/GetWorkflow", wf.GetWorkflowRequest(name="needs_db"))).workflow
    assert list(needs.required_resources) == ["db"]


@pytest.mark.parametrize(
    ("rpc", "request_class", "rows"),
    [
        ("WorkflowService/ListWorkflows", wf.ListWorkflowsRequest, "workflows"),
        ("WorkflowService/ListStepTypes", wf.ListStepTypesRequest, "step_types"),
        ("ResourceService/ListResourceTypes", rs.ListResourceTypesRequest, "resource_types"),
        ("ResourceService/ListResources", rs.ListResourcesRequest, "resources"),
        ("SecretService/ListSecrets", sc.ListSecretsRequest, "secrets"),
    ],
)
async def test_pages_of_one_make_up_the_whole_list(parts: Parts, rpc, request_class, rows) -> None:
    for name in ("a", "b", "c"):
        parts.registry.register(name, REFERENCE)
        await parts.faces.secrets.store_secret(name, {"user": "app"})
    whole = [row.name for row in getattr(await parts.call(rpc, request_class()), rows)]
    assert len(whole) >= 3
    assert whole == sorted(whole)
    seen: list[str] = []
    token = ""
    while not seen or token:
        page = await parts.call(rpc, request_class(page_size=1, page_token=token))
        seen += [row.name for row in getattr(page, rows)]
        token = page.next_page_token
    assert seen == whole


async def test_a_valid_definition_gets_the_revision_it_would_have(parts: Parts) -> None:
    found = (await parts.call("WorkflowService/GetWorkflow", wf.GetWorkflowRequest(name="adds"))).workflow
    request = wf.ValidateWorkflowRequest(definition=found.definition)
    answer = await parts.call("WorkflowService/ValidateWorkflow", request)
    assert (list(answer.problems), answer.revision) == ([], found.revision)


async def test_every_problem_of_a_definition_is_an_answer(parts: Parts) -> None:
    definition = workflow_pb2.WorkflowDefinition(name="not ok", durability=9)  # type: ignore[arg-type]  # unknown
    definition.steps.add(name="a", type="no_such_type")
    definition.steps.add(name="a", type="code").timeout.attempt.nanos = 2_000_000_000
    definition.steps[1].config["source"] = float("nan")
    answer = await parts.call("WorkflowService/ValidateWorkflow", wf.ValidateWorkflowRequest(definition=definition))
    paths = {problem.path for problem in answer.problems}
    assert {"name", "durability", "steps[0].type", "steps[1].timeout.attempt", "steps[1].config.source"} <= paths
    assert not answer.revision


async def test_validating_keeps_nothing(parts: Parts) -> None:
    definition = workflow_pb2.WorkflowDefinition(name="once")
    definition.steps.add(name="a", type="code").config["source"] = "return 1"
    before = len(parts.faces.workflows._plans)
    await parts.call("WorkflowService/ValidateWorkflow", wf.ValidateWorkflowRequest(definition=definition))
    assert len(parts.faces.workflows._plans) == before


async def test_types_have_a_sentence_and_a_json_schema(parts: Parts) -> None:
    steps = (await parts.call("WorkflowService/ListStepTypes", wf.ListStepTypesRequest())).step_types
    resources = (await parts.call("ResourceService/ListResourceTypes", rs.ListResourceTypesRequest())).resource_types
    assert {one.name for one in resources} >= {"cache", "database", "http_client"}
    for one in (*steps, *resources):
        assert one.description
        jsonschema.Draft202012Validator.check_schema(json.loads(one.config_schema))
    request = wf.GetStepTypeRequest(name="code")
    assert (await parts.call("WorkflowService/GetStepType", request)).step_type in steps


async def test_a_resource_is_shown_without_being_opened(parts: Parts) -> None:
    parts.registry.register("main_db", REFERENCE)
    for rpc, request_class in (
        ("GetResource", rs.GetResourceRequest),
        ("CheckResource", rs.CheckResourceRequest),
        ("DrainResource", rs.DrainResourceRequest),
    ):
        found = (await parts.call(f"ResourceService/{rpc}", request_class(name="main_db"))).resource
        assert (found.type, found.credentials_ref, found.reserved) == ("database", "creds", True)
        assert found.state == resource_pb2.RESOURCE_STATE_IDLE
        assert "db.example.com" in found.description


async def test_versions_of_a_secret_are_told_without_values(parts: Parts) -> None:
    for n in range(3):
        await parts.faces.secrets.store_secret("creds", {"n": n})
    request = sc.ListSecretVersionsRequest(name="creds", page_size=2)
    first = await parts.call("SecretService/ListSecretVersions", request)
    request.page_token = first.next_page_token
    rest = await parts.call("SecretService/ListSecretVersions", request)
    states = [(one.version, sc.SecretVersionState.Name(one.state)) for one in (*first.versions, *rest.versions)]
    assert states == [
        (3, "SECRET_VERSION_STATE_CURRENT"),
        (2, "SECRET_VERSION_STATE_SUPERSEDED"),
        (1, "SECRET_VERSION_STATE_SUPERSEDED"),
    ]
    assert rest.next_page_token == ""
    absent = sc.ListSecretVersionsRequest(name="nothing")
    assert (await problem_of(parts.call("SecretService/ListSecretVersions", absent))).reason == "SECRET_NOT_FOUND"


async def test_secrets_go_in_and_only_their_metadata_comes_out(parts: Parts) -> None:
    put = sc.PutSecretRequest(name="creds", value={"json": '{"password": "hunter2"}'})
    first = (await parts.call("SecretService/PutSecret", put)).secret
    second = (await parts.call("SecretService/PutSecret", put)).secret
    assert (first.version, second.version) == (1, 2)
    assert await parts.faces.secrets.get_secret("creds") == {"password": "hunter2"}
    by_value = sc.PutSecretRequest(name="other", value={"value": {"struct_value": {"port": 5432}}})
    await parts.call("SecretService/PutSecret", by_value)
    assert await parts.faces.secrets.get_secret("other") == {"port": 5432}
    assert (await parts.call("SecretService/GetSecret", sc.GetSecretRequest(name="creds"))).secret == second
    await parts.call("SecretService/DeleteSecret", sc.DeleteSecretRequest(name="creds"))
    problem = await problem_of(parts.call("SecretService/GetSecret", sc.GetSecretRequest(name="creds")))
    assert problem.reason == "SECRET_NOT_FOUND"
    rotated = await parts.call("SecretService/RotateKeys", sc.RotateKeysRequest())
    assert rotated.primary_key_id


async def test_the_system_tells_what_it_is_how_it_is_and_what_it_counted(parts: Parts) -> None:
    info = await parts.call("SystemService/GetInfo", sy.GetInfoRequest())
    assert (info.version, info.title, info.journal, info.durable) == ("0.1.0", "Test", "memory", False)
    assert info.start_time == timestamp(START)
    health = await parts.call("SystemService/GetHealth", sy.GetHealthRequest())
    assert health.status == sy.HEALTH_STATUS_HEALTHY
    assert [(c.name, c.status, c.latency.nanos) for c in health.components] == [
        ("journal", sy.HEALTH_STATUS_HEALTHY, 1_000_000)
    ]
    await problem_of(parts.call("SecretService/GetSecret", sc.GetSecretRequest()))
    stats = (await parts.call("SystemService/GetStats", sy.GetStatsRequest())).values
    assert stats["executions_driven"] == 0
    assert stats["rpc_calls.SystemService.GetInfo"] == 1
    assert stats["rpc_failed.SecretService.GetSecret"] == stats["rpc_failed"] == 1
    assert (stats["rpc_calls"], stats["rpc_open"], stats["rpc_streams_open"]) == (4, 1, 0)
