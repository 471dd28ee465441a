"""The built-in step types, one file each. They enter a catalog by the same door as any other."""

from __future__ import annotations

from typing import Any

from torana_server.steps.functions import FunctionRegistry
from torana_server.steps.imports import ImportPolicy
from torana_server.steps.registry import StepType
from torana_server.steps.threads import StepThreads
from torana_server.steps.types.code import CodeStep
from torana_server.steps.types.compose import ComposeStep
from torana_server.steps.types.function import FunctionStep
from torana_server.steps.types.switch import SwitchStep


def built_in_types(
    functions: FunctionRegistry,
    threads: StepThreads,
    *,
    policy: ImportPolicy | None = None,
    cancel_grace_s: float = 10.0,
) -> list[StepType[Any]]:
    """One object of each built-in type, ready for `StepTypes.register`."""
    return [
        CodeStep(functions, policy),
        FunctionStep(functions, threads, cancel_grace_s=cancel_grace_s),
        SwitchStep(),
        ComposeStep(),
    ]
