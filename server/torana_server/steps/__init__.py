"""Step types and the runner that executes attempts."""

from torana_server.steps.blocking import BlockingStepContext
from torana_server.steps.context import RequestContext, StepContext, WorkflowContext, get_current_context
from torana_server.steps.functions import Function, FunctionRegistry
from torana_server.steps.imports import ImportPolicy
from torana_server.steps.log import StepLogger
from torana_server.steps.ports import (
    ResourceLeases,
    StepCall,
    StepEvents,
    StepResources,
    StepResult,
    StepRunner,
)
from torana_server.steps.registry import ENTRY_POINT_GROUP, LITERAL, Routed, StepConfig, StepType, StepTypes
from torana_server.steps.runner import InProcessRunner
from torana_server.steps.threads import StepThreads, ThreadStats
from torana_server.steps.types import built_in_types
from torana_server.steps.types.code import PROVIDED_NAMES
from torana_server.steps.watchdog import LoopStats, LoopWatchdog

__all__ = [
    "ENTRY_POINT_GROUP",
    "LITERAL",
    "PROVIDED_NAMES",
    "BlockingStepContext",
    "Function",
    "FunctionRegistry",
    "ImportPolicy",
    "InProcessRunner",
    "LoopStats",
    "LoopWatchdog",
    "RequestContext",
    "ResourceLeases",
    "Routed",
    "StepCall",
    "StepConfig",
    "StepContext",
    "StepEvents",
    "StepLogger",
    "StepResources",
    "StepResult",
    "StepRunner",
    "StepThreads",
    "StepType",
    "StepTypes",
    "ThreadStats",
    "WorkflowContext",
    "built_in_types",
    "get_current_context",
]
