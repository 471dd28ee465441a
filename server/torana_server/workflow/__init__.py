"""Definitions, validation, plans and data flow. Pure."""

from torana_server.workflow.builder import Workflow, WorkflowBuilder
from torana_server.workflow.dataflow import Readiness, config_for, edge_taken, inputs_for, ready
from torana_server.workflow.definition import (
    ERROR_ROUTE,
    NO_RETRY,
    Connection,
    Definition,
    Durability,
    RetryPolicy,
    Step,
    StepTimeout,
)
from torana_server.workflow.durations import parse_duration
from torana_server.workflow.forms import from_form, from_json, json_schema, to_form, to_json
from torana_server.workflow.graph import Edge
from torana_server.workflow.outcome import Outcome, error_output
from torana_server.workflow.paths import PathNotFoundError, look_up, parse_path
from torana_server.workflow.plan import Plan, PlannedStep, compile_plan
from torana_server.workflow.ports import StepCatalog, StepSpec
from torana_server.workflow.registry import RegisteredWorkflow, WorkflowRegistry
from torana_server.workflow.revision import canonical_definition, revision_of
from torana_server.workflow.schema import StepSchema, definition_schema
from torana_server.workflow.templates import TemplateScope, holds_template
from torana_server.workflow.yaml_form import from_yaml, located, to_yaml

__all__ = [
    "ERROR_ROUTE",
    "NO_RETRY",
    "Connection",
    "Definition",
    "Durability",
    "Edge",
    "Outcome",
    "PathNotFoundError",
    "Plan",
    "PlannedStep",
    "Readiness",
    "RegisteredWorkflow",
    "RetryPolicy",
    "Step",
    "StepCatalog",
    "StepSchema",
    "StepSpec",
    "StepTimeout",
    "TemplateScope",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowRegistry",
    "canonical_definition",
    "compile_plan",
    "config_for",
    "definition_schema",
    "edge_taken",
    "error_output",
    "from_form",
    "from_json",
    "from_yaml",
    "holds_template",
    "inputs_for",
    "json_schema",
    "located",
    "look_up",
    "parse_duration",
    "parse_path",
    "ready",
    "revision_of",
    "to_form",
    "to_json",
    "to_yaml",
]
