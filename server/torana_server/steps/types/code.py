"""`code`: runs Python source held in the definition."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, Final

import aiohttp
import asyncpg
from pydantic import Field

from torana_server.core.errors import Violation
from torana_server.steps.context import StepContext, get_current_context
from torana_server.steps.functions import FunctionRegistry, missing_input
from torana_server.steps.imports import ImportPolicy
from torana_server.steps.registry import LITERAL, StepConfig, StepType
from torana_server.steps.source import (
    StepSource,
    can_be_local,
    compile_source,
    forget_lines_with,
    parse_source,
    problems_of,
    register_lines,
    unsupplied_input,
)

SOURCES_MAX: Final = 1_024
"""Parsed sources kept."""
FUNCTIONS_MAX: Final = 4_096
"""Compiled functions kept: one per source and distinct set of input names."""

_MODULES_AND_CLASSES: Final[Mapping[str, object]] = {
    "asyncio": asyncio,
    "json": json,
    "time": time,
    "math": math,
    "re": re,
    "uuid": uuid,
    "asyncpg": asyncpg,
    "aiohttp": aiohttp,
    "datetime": datetime,
    "date": date,
    "timedelta": timedelta,
    "timezone": timezone,
    "Decimal": Decimal,
    "get_current_context": get_current_context,
}

PROVIDED_NAMES: Final = frozenset(_MODULES_AND_CLASSES) | {
    "get_resource",
    "context",
    "workflow_context",
    "workflow_name",
    "step_name",
    "ctx",
    "progress",
    "emit",
    "checkpoint",
    "logger",
    "print",
}
"""What every source step has without importing it; registered functions come on top, for names not in here."""


class CodeConfig(StepConfig):
    source: str = Field(
        description="Python source; it may await, and return its output or assign it to `result`",
        json_schema_extra=LITERAL,
    )


class CodeStep(StepType[CodeConfig]):
    """The source is the body of an `async` function whose local names are the inputs; PROVIDED_NAMES are its globals.

    Its output is what it returns, or what `result` is when it ends without a return, or null. An input that nobody
    supplied has no value: reading it fails with INPUT_NOT_FOUND. Inputs whose names are no Python names, or would
    shadow `get_resource`, `context` or `logger`, are in `ctx.inputs` only.
    """

    name = "code"
    description = "Runs Python source"
    Config = CodeConfig

    def __init__(self, functions: FunctionRegistry, policy: ImportPolicy | None = None) -> None:
        self._functions = functions
        self._policy = policy or ImportPolicy()
        self._parsed = lru_cache(SOURCES_MAX)(_parsed)
        self._compiled = lru_cache(FUNCTIONS_MAX)(_compiled)

    def check(self, config: CodeConfig) -> Iterable[Violation]:
        return problems_of(config.source, self._policy)

    def requires(self, config: Mapping[str, object]) -> frozenset[str]:
        """Also the registered functions whose names the source reads, so that no server without them takes it over."""
        source = config.get("source")
        if not isinstance(source, str) or problems_of(source, self._policy):
            return frozenset({self.name})
        names = parse_source(source, name="step", filename="<source>").names
        called = {f.requirement for name, f in self._functions.latest.items() if name in names.read - PROVIDED_NAMES}
        return frozenset({self.name, *called})

    def capabilities(self) -> frozenset[str]:
        return self._functions.requirements() | {self.name}

    async def run(self, ctx: StepContext, config: CodeConfig, inputs: dict[str, object]) -> object:
        source = self._parsed(config.source, ctx.workflow_name, ctx.step_name, ctx.revision)
        compiled = self._compiled(source, frozenset(inputs), self._functions.names)
        provided = self._provided(ctx)
        arguments = {name: inputs[name] for name in compiled.local_inputs}
        if compiled.local_provided or compiled.global_inputs:
            arguments.update((name, provided[name]) for name in compiled.local_provided)
            provided.update((name, inputs[name]) for name in compiled.global_inputs)
        try:
            return await FunctionType(compiled.code, provided, source.name)(**arguments)
        except NameError as error:
            missing = unsupplied_input(error, source, compiled.code)
            if missing is None or missing in inputs:
                raise
            raise missing_input([missing], f"step {ctx.step_name!r}", inputs) from error

    def _provided(self, ctx: StepContext) -> dict[str, Any]:
        return {
            **self._functions.callables,
            **_MODULES_AND_CLASSES,
            "__builtins__": self._policy.builtins,
            "__name__": f"{ctx.workflow_name}.{ctx.step_name}",
            "get_resource": ctx.get_resource,
            "context": ctx.context,
            "workflow_context": ctx.workflow_context,
            "workflow_name": ctx.workflow_name,
            "step_name": ctx.step_name,
            "ctx": ctx,
            "progress": ctx.progress,
            "emit": ctx.emit,
            "checkpoint": ctx.checkpoint,
            "logger": ctx.logger,
            "print": ctx.print,
        }


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The function of a source for one set of input names, and where its names get their values."""

    code: CodeType
    local_inputs: tuple[str, ...]
    local_provided: tuple[str, ...]
    global_inputs: tuple[str, ...]


def _parsed(source: str, workflow: str, step: str, revision: str) -> StepSource:
    filename = register_lines(source, workflow=workflow, step=step, revision=revision)
    parsed = parse_source(source, name=step, filename=filename)
    forget_lines_with(parsed)
    return parsed


def _compiled(source: StepSource, inputs: frozenset[str], functions: frozenset[str]) -> _Compiled:
    usable = frozenset(filter(can_be_local, inputs))
    local = tuple(sorted(usable - source.names.declared_global))
    provided = tuple(sorted(source.names.bound.intersection(PROVIDED_NAMES | functions).difference(local)))
    code = compile_source(source, (*local, *provided))
    return _Compiled(code, local, provided, tuple(usable & source.names.declared_global))
