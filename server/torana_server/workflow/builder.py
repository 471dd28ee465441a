"""Definitions written in Python."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypedDict, Unpack

from torana_server.core.errors import InvalidWorkflowError, Violation
from torana_server.workflow.definition import (
    NO_RETRY,
    Connection,
    Definition,
    Durability,
    RetryPolicy,
    Step,
    StepTimeout,
)
from torana_server.workflow.durations import parse_duration
from torana_server.workflow.forms import from_form, to_form
from torana_server.workflow.revision import normalised_value
from torana_server.workflow.validation import json_problems, problems, require_valid

CODE = "code"
FUNCTION = "function"

Function = Callable[..., Any]
"""`async def`, or a plain `def` that runs in an executor of its own. Its parameter names are the step's inputs."""
Duration = float | str | timedelta
"""Seconds, text such as "5m", or a timedelta."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Workflow:
    """A definition and the functions of its function steps, keyed `NAME@VERSION` as those steps name them."""

    definition: Definition
    functions: Mapping[str, Function]


class StepOptions(TypedDict, total=False):
    """What every kind of step can have. `timeout` is that of one attempt unless it is a StepTimeout."""

    inputs: Mapping[str, object] | None
    required_resources: Iterable[str]
    retry: RetryPolicy | None
    timeout: Duration | StepTimeout | None


class WorkflowBuilder:
    """Collects steps and connections; nothing is checked before `build()`, which names every problem at once.

    `timeout` bounds a whole execution. `retry` is for steps that have none of their own.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        retry: RetryPolicy | None = None,
        durability: Durability | str = Durability.EVERY_STEP,
        durability_steps: int = 1,
    ) -> None:
        self._problems: list[Violation] = []
        self._steps: list[Step] = []
        self._connections: list[Connection] = []
        self._functions: dict[str, Function] = {}
        self._frame = Definition(
            name=name,
            steps=(),
            description=description,
            labels=dict(labels or {}),
            timeout_s=None if timeout is None else self._seconds(timeout, "timeout"),
            retry=self._retry(retry, "retry") or NO_RETRY,
            durability=self._durability(durability),
            durability_steps=durability_steps,
        )

    def add_async_code(self, name: str, source: str, **options: Unpack[StepOptions]) -> Self:
        """A step of Python source, which may `await`, and `return` a value or assign `result`. It is dedented."""
        if not isinstance(source, str):
            self._problem("config.source", "must be the text of the code; add_step takes functions")
            source = ""
        return self._add(name, CODE, {"source": textwrap.dedent(source).strip("\n")}, "", options)

    def add_step(
        self,
        name: str,
        function: Function,
        *,
        function_name: str = "",
        version: str = "1",
        **options: Unpack[StepOptions],
    ) -> Self:
        """A step that calls a function, registered as `function_name` or else by its module and qualified name.

        The definition knows the function by that name and `version` alone: raise `version` when the function changes
        so that executions in flight should not go on with it.
        """
        registered = function_name or _registered_name(function)
        if not callable(function):
            self._problem("config.function", f"{function!r:.80} is not a function")
        elif not registered:
            self._problem("config.function", "the function has no name of its own; give function_name")
        elif self._functions.setdefault(f"{registered}@{version}", function) is not function:
            message = f"{registered!r} version {version!r} is already another function; give function_name or version"
            self._problem("config.function", message)
        return self._add(name, FUNCTION, {"function": registered, "version": version}, "", options)

    def add_node(
        self,
        type: str,
        name: str,
        config: Mapping[str, object] | None = None,
        *,
        credentials_ref: str = "",
        **options: Unpack[StepOptions],
    ) -> Self:
        """A step of any type. `credentials_ref` names a secret of the vault."""
        return self._add(name, type, dict(config or {}), credentials_ref, options)

    def add_connection(
        self,
        from_step: str,
        from_output: str | None = None,
        to_step: str | None = None,
        to_input: str | None = None,
        *,
        route: str = "",
    ) -> Self:
        """An edge. None leaves out: without output and input it forwards the scope. Two arguments are two steps."""
        if to_step is None:
            from_output, to_step = None, from_output
        connection = Connection(
            from_step=from_step,
            from_output=from_output or "",
            to_step=to_step or "",
            to_input=to_input or "",
            route=route,
        )
        self._connections.append(connection)
        return self

    def build(self) -> Workflow:
        """The workflow. Raises InvalidWorkflowError with every problem of its structure.

        Step types, config and routes are checked where the workflow is registered, since they depend on the server.
        """
        definition = dataclasses.replace(self._frame, steps=tuple(self._steps), connections=tuple(self._connections))
        violations = self._problems + _form_problems(definition)
        require_valid(definition, violations or problems(definition, None))
        return Workflow(definition, dict(self._functions))

    def _add(
        self, name: str, kind: str, config: Mapping[str, object], credentials_ref: str, options: StepOptions
    ) -> Self:
        resources = options.get("required_resources", ())
        if isinstance(resources, str):
            self._problem("required_resources", f"must be a list of names: [{resources!r}]")
            resources = ()
        step = Step(
            name=name,
            type=kind,
            config=config,
            inputs=dict(options.get("inputs") or {}),
            required_resources=tuple(resources),
            credentials_ref=credentials_ref,
            retry=self._retry(options.get("retry"), f"steps[{len(self._steps)}].retry"),
            timeout=self._timeout(options.get("timeout")),
        )
        self._steps.append(step)
        return self

    def _retry(self, retry: RetryPolicy | None, path: str) -> RetryPolicy | None:
        if retry is None or isinstance(retry, RetryPolicy):
            return retry
        self._problems.append(Violation(path, f"must be a RetryPolicy(max_attempts=…), not {type(retry).__name__}"))
        return None

    def _timeout(self, timeout: Duration | StepTimeout | None) -> StepTimeout:
        if timeout is None:
            return StepTimeout()
        if isinstance(timeout, StepTimeout):
            return timeout
        return StepTimeout(attempt_s=self._seconds(timeout, f"steps[{len(self._steps)}].timeout"))

    def _seconds(self, duration: Duration, path: str) -> float:
        if isinstance(duration, timedelta):
            return duration.total_seconds()
        try:
            return parse_duration(duration)
        except ValueError as error:
            self._problems.append(Violation(path, str(error)))
            return 1.0

    def _durability(self, durability: Durability | str) -> Durability:
        try:
            return Durability(durability)
        except ValueError:
            known = ", ".join(Durability)
            self._problems.append(Violation("durability", f"{durability!r} is not a durability; they are {known}"))
            return Durability.EVERY_STEP

    def _problem(self, field: str, message: str) -> None:
        self._problems.append(Violation(f"steps[{len(self._steps)}].{field}", message))


def _form_problems(definition: Definition) -> list[Violation]:
    """Arguments of the wrong type, found by reading the definition's own form, where its values are JSON."""
    unreadable = [
        violation
        for index, step in enumerate(definition.steps)
        for name, value in (("config", step.config), ("inputs", step.inputs))
        for violation in json_problems(value, f"steps[{index}].{name}")
    ]
    if unreadable:
        return unreadable
    try:
        from_form(normalised_value(to_form(definition)))
    except InvalidWorkflowError as error:
        return list(error.violations)
    return []


def _registered_name(function: Function) -> str:
    """`module.qualname` in letters, digits and `_.-`, at most 128 of them; "" for a function without a name."""
    qualified = getattr(function, "__qualname__", "")
    if not qualified or "<lambda>" in qualified:
        return ""
    module = getattr(function, "__module__", None) or ""
    name = qualified.replace("<locals>.", "")
    full = name if module in ("", "__main__") else f"{module}.{name}"
    return _NOT_IN_NAMES.sub("_", full)[-128:].lstrip("0123456789_.-")
