"""WorkflowService."""

from __future__ import annotations

from typing import Any, Final

from torana.v1 import workflow_service_pb2 as pb
from torana_server.core.errors import InvalidWorkflowError, TypeNotFoundError
from torana_server.core.limits import DEFINITION_BYTES_MAX
from torana_server.rpc.calls import principal
from torana_server.rpc.checks import Checks
from torana_server.rpc.mapping import (
    definition_from_message,
    problem_to_message,
    step_type_to_message,
    workflow_to_message,
)
from torana_server.rpc.paging import Query, names_after, page_of
from torana_server.rpc.settings import RpcSettings
from torana_server.steps import StepTypes
from torana_server.workflow import WorkflowRegistry, compile_plan

REVISION_CHARS_MAX: Final = 64


class WorkflowServicer:
    def __init__(self, workflows: WorkflowRegistry, step_types: StepTypes, settings: RpcSettings) -> None:
        self._workflows = workflows
        self._step_types = step_types
        self._settings = settings

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Any) -> pb.GetWorkflowResponse:  # noqa: N802
        checks = Checks()
        checks.name("name", request.name)
        checks.text("revision", request.revision, REVISION_CHARS_MAX)
        checks.done()
        workflow = self._workflows.get(request.name, request.revision)
        return pb.GetWorkflowResponse(workflow=workflow_to_message(workflow, with_definition=True))

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Any) -> pb.ListWorkflowsResponse:  # noqa: N802
        checks = Checks()
        size = checks.page_size(request.page_size)
        checks.done()
        query = Query(principal().tenant, "ListWorkflows")
        after = query.position(request.page_token) if request.page_token else ""
        page = page_of(
            (workflow for workflow in self._workflows.all() if workflow.definition.name > after),
            query=query,
            size=size,
            bytes_max=self._settings.page_bytes_max,
            item=lambda workflow: workflow_to_message(workflow, with_definition=False),
            position=lambda workflow: workflow.definition.name,
        )
        return pb.ListWorkflowsResponse(workflows=page.items, next_page_token=page.next_token)

    async def ValidateWorkflow(  # noqa: N802
        self, request: pb.ValidateWorkflowRequest, context: Any
    ) -> pb.ValidateWorkflowResponse:
        checks = Checks()
        checks.required("definition", given=request.HasField("definition"))
        if request.definition.ByteSize() > DEFINITION_BYTES_MAX:
            checks.fail("definition", f"at most {DEFINITION_BYTES_MAX:,} bytes")
        checks.done()
        definition = definition_from_message(request.definition, checks)
        try:
            # Not by the registry, which keeps what it compiles.
            plan = compile_plan(definition, self._step_types)
        except InvalidWorkflowError as error:
            checks.merge(error.violations)
        if checks.violations:
            return pb.ValidateWorkflowResponse(problems=map(problem_to_message, checks.violations))
        return pb.ValidateWorkflowResponse(revision=plan.revision, required_resources=plan.required_resources)

    async def ListStepTypes(self, request: pb.ListStepTypesRequest, context: Any) -> pb.ListStepTypesResponse:  # noqa: N802
        checks = Checks()
        size = checks.page_size(request.page_size)
        checks.done()
        query = Query(principal().tenant, "ListStepTypes")
        after = query.position(request.page_token) if request.page_token else ""
        page = page_of(
            map(self._step_types.find, names_after(self._step_types.names(), after)),
            query=query,
            size=size,
            bytes_max=self._settings.page_bytes_max,
            item=step_type_to_message,
            position=lambda step_type: step_type.name,
        )
        return pb.ListStepTypesResponse(step_types=page.items, next_page_token=page.next_token)

    async def GetStepType(self, request: pb.GetStepTypeRequest, context: Any) -> pb.GetStepTypeResponse:  # noqa: N802
        checks = Checks()
        checks.name("name", request.name)
        checks.done()
        try:
            step_type = self._step_types.find(request.name)
        except TypeNotFoundError as error:
            raise TypeNotFoundError(error.message, metadata={"stepType": request.name}) from None
        return pb.GetStepTypeResponse(step_type=step_type_to_message(step_type))
