"""What is wrong with a definition, all of it at once.

Each function yields violations for one aspect and stays silent where another aspect's fault keeps it from judging.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torana_server.core.errors import InvalidWorkflowError, StepError, Violation
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.core.limits import (
    CONNECTIONS_PER_WORKFLOW_MAX,
    DEFINITION_BYTES_MAX,
    LABEL_VALUE_CHARS_MAX,
    LABELS_MAX,
    STEPS_PER_WORKFLOW_MAX,
)
from torana_server.core.names import did_you_mean
from torana_server.core.values import encode, size_of
from torana_server.workflow.credentials import credential_problems
from torana_server.workflow.definition import Definition, RetryPolicy, Step
from torana_server.workflow.forms import to_form
from torana_server.workflow.paths import parse_path
from torana_server.workflow.ports import StepCatalog
from torana_server.workflow.routes import flow_problems
from torana_server.workflow.templates import compile_template

LABEL_KEY_CHARS_MAX = 128
DURATION_S_MAX = 100 * 366 * 86_400.0
"""100 years: keeps every deadline a representable time."""


def require_valid(definition: Definition, violations: Iterable[Violation]) -> None:
    """Raises one InvalidWorkflowError with all violations, if there are any."""
    found = list(violations)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise InvalidWorkflowError(f"workflow {definition.name!r} is not valid: {count}", violations=found)


def problems(definition: Definition, catalog: StepCatalog | None) -> list[Violation]:
    """Everything wrong with a definition. Without a catalog its step types, their config and routes are not judged."""
    too_large = list(_size_problems(definition))
    if too_large:
        return too_large
    steps = _Steps.of(definition)
    found = list(_workflow_problems(definition))
    are_json = True
    for index, step in enumerate(definition.steps):
        path = f"steps[{index}]"
        unreadable = [*json_problems(step.config, f"{path}.config"), *json_problems(step.inputs, f"{path}.inputs")]
        are_json = are_json and not unreadable
        found += [*unreadable, *_step_problems(step, path, steps, None if unreadable else catalog)]
    found += _connection_problems(definition, steps)
    if are_json:
        found += flow_problems(definition, catalog)
        found += _form_problems(definition, {violation.path for violation in found})
    return found


@dataclass(frozen=True, slots=True)
class _Steps:
    count: Counter[str]

    @classmethod
    def of(cls, definition: Definition) -> _Steps:
        return cls(Counter(step.name for step in definition.steps))

    def unknown(self, name: str, path: str) -> Iterator[Violation]:
        if name not in self.count:
            yield Violation(path, f"there is no step {name!r}{did_you_mean(name, self.count)}")


# the workflow


def _size_problems(definition: Definition) -> Iterator[Violation]:
    if not definition.steps:
        yield Violation("steps", "a workflow needs at least one step")
    if len(definition.steps) > STEPS_PER_WORKFLOW_MAX:
        yield Violation("steps", f"{len(definition.steps):,} steps; at most {STEPS_PER_WORKFLOW_MAX:,} are allowed")
    if len(definition.connections) > CONNECTIONS_PER_WORKFLOW_MAX:
        limit = f"at most {CONNECTIONS_PER_WORKFLOW_MAX:,} are allowed"
        yield Violation("connections", f"{len(definition.connections):,} connections; {limit}")


def _workflow_problems(definition: Definition) -> Iterator[Violation]:
    yield from _name_problems(definition.name, "name")
    if len(definition.labels) > LABELS_MAX:
        yield Violation("labels", f"{len(definition.labels)} labels; at most {LABELS_MAX} are allowed")
    for key, value in definition.labels.items():
        if not 0 < len(key) <= LABEL_KEY_CHARS_MAX:
            yield Violation(f"labels.{key[:140]}", f"a label's name has from 1 to {LABEL_KEY_CHARS_MAX} characters")
        if len(value) > LABEL_VALUE_CHARS_MAX:
            yield Violation(f"labels.{key}", f"longer than {LABEL_VALUE_CHARS_MAX} characters")
    if definition.timeout_s is not None:
        yield from _duration_problems(definition.timeout_s, "timeout")
    yield from _retry_problems(definition.retry, "retry")
    if definition.durability_steps < 1:
        yield Violation("durability_steps", f"must be at least 1, not {definition.durability_steps}")


def _name_problems(name: str, path: str) -> Iterator[Violation]:
    if not is_name(name):
        yield Violation(path, f"{name[:140]!r} is not a name: it must be {NAME_RULE}")


def _duration_problems(duration_s: float, path: str, *, zero_allowed: bool = False) -> Iterator[Violation]:
    if not math.isfinite(duration_s) or duration_s > DURATION_S_MAX:
        yield Violation(path, f"{duration_s:g} s is longer than the 100 years allowed")
    elif duration_s < 0 or (duration_s == 0 and not zero_allowed):
        yield Violation(path, f"must be {'at least' if zero_allowed else 'more than'} 0 s, not {duration_s:g} s")


def _retry_problems(retry: RetryPolicy, path: str) -> Iterator[Violation]:
    if retry.max_attempts < 1:
        yield Violation(f"{path}.max_attempts", f"must be at least 1, not {retry.max_attempts}")
    yield from _duration_problems(retry.initial_interval_s, f"{path}.initial_interval", zero_allowed=True)
    yield from _duration_problems(retry.max_interval_s, f"{path}.max_interval", zero_allowed=True)
    if retry.initial_interval_s > retry.max_interval_s >= 0:
        over = f"{retry.initial_interval_s:g} s is above max_interval, {retry.max_interval_s:g} s; raise max_interval"
        yield Violation(f"{path}.initial_interval", over)
    if not 1 <= retry.backoff <= 1_000:
        yield Violation(f"{path}.backoff", f"must be from 1 to 1,000, not {retry.backoff:g}")
    if not 0 <= retry.jitter <= 1:
        yield Violation(f"{path}.jitter", f"must be from 0 to 1, not {retry.jitter:g}")
    for name in ("retry_on", "never_retry_on"):
        for index, error_type in enumerate(getattr(retry, name)):
            if not error_type:
                yield Violation(f"{path}.{name}[{index}]", "is empty; name an error type or reason")


# values


def _form_problems(definition: Definition, reported: set[str]) -> Iterator[Violation]:
    """What else keeps the whole from being JSON, such as text that is not Unicode; or that it is too large."""
    try:
        size = size_of(encode(to_form(definition)))
    except StepError as error:
        path = _dotted(error.metadata["path"]).removeprefix(".")
        if path not in reported:
            yield Violation(path, error.message)
        return
    if size > DEFINITION_BYTES_MAX:
        limit = f"at most {DEFINITION_BYTES_MAX:,} are allowed"
        yield Violation("", f"the definition has {size:,} bytes as JSON; {limit}")


def json_problems(value: Mapping[str, object], path: str) -> Iterator[Violation]:
    """What in an object JSON cannot hold: a definition has no room for types beside it. Tuples count as lists."""
    try:
        payload = encode(value)
    except StepError as error:
        yield Violation(path + _dotted(error.metadata["path"]), error.message)
        return
    for pointer, kind in payload.types.items():
        if kind != "tuple":
            message = f"is a {kind}, which JSON lacks; write it as text or a number"
            yield Violation(path + _dotted(pointer), message)


def _dotted(pointer: str) -> str:
    return "".join(f"[{part}]" if part.isdigit() or part == "*" else f".{part}" for part in pointer.split("/")[1:])


# steps


def _step_problems(step: Step, path: str, steps: _Steps, catalog: StepCatalog | None) -> Iterator[Violation]:
    yield from _name_problems(step.name, f"{path}.name")
    if steps.count[step.name] > 1:
        yield Violation(f"{path}.name", f"{step.name!r} names {steps.count[step.name]} steps; names are unique")
    if step.retry is not None:
        yield from _retry_problems(step.retry, f"{path}.retry")
    yield from _duration_problems(step.timeout.attempt_s, f"{path}.timeout.attempt")
    if step.timeout.total_s is not None:
        yield from _duration_problems(step.timeout.total_s, f"{path}.timeout.total")
    yield from _resource_problems(step, path)
    yield from _config_problems(step, path, steps, catalog)
    yield from _template_problems(step.inputs, step, f"{path}.inputs", steps, frozenset())


def _resource_problems(step: Step, path: str) -> Iterator[Violation]:
    repeated = {name for name, count in Counter(step.required_resources).items() if count > 1}
    for index, name in enumerate(step.required_resources):
        yield from _name_problems(name, f"{path}.required_resources[{index}]")
        if name in repeated and step.required_resources.index(name) != index:
            yield Violation(f"{path}.required_resources[{index}]", f"{name!r} is there twice")
    if step.credentials_ref:
        yield from _name_problems(step.credentials_ref, f"{path}.credentials_ref")


def _config_problems(step: Step, path: str, steps: _Steps, catalog: StepCatalog | None) -> Iterator[Violation]:
    """Without the type nothing can be said of config: which fields hold source text is not known."""
    if not step.type:
        yield Violation(f"{path}.type", "is required")
        return
    if catalog is None:
        return
    spec = catalog.get(step.type)
    if spec is None:
        known = catalog.names()
        near = did_you_mean(step.type, known) or f"; known are {', '.join(known)}"
        yield Violation(f"{path}.type", f"there is no step type {step.type!r}{near}")
        return
    config_path = f"{path}.config"
    for violation in spec.problems(step.config):
        yield Violation(_joined(config_path, violation.path), violation.message)
    yield from credential_problems(step.config, config_path, spec.literal_fields)
    yield from _template_problems(step.config, step, config_path, steps, spec.literal_fields)


def _joined(path: str, inner: str) -> str:
    return f"{path}{inner}" if not inner or inner.startswith("[") else f"{path}.{inner}"


def _template_problems(
    value: Mapping[str, object], step: Step, path: str, steps: _Steps, literal_fields: frozenset[str]
) -> Iterator[Violation]:
    template, syntax_problems = compile_template(value, path, literal_fields)
    yield from syntax_problems
    for name in template.steps:
        if name == step.name:
            yield Violation(path, f"a template refers to the step itself, {name!r}, which has no output yet")
        else:
            yield from (Violation(v.path, f"a template: {v.message}") for v in steps.unknown(name, path))


# connections


def _connection_problems(definition: Definition, steps: _Steps) -> Iterator[Violation]:
    first: dict[object, int] = {}
    for index, connection in enumerate(definition.connections):
        path = f"connections[{index}]"
        yield from steps.unknown(connection.from_step, f"{path}.from_step")
        yield from steps.unknown(connection.to_step, f"{path}.to_step")
        try:
            parse_path(connection.from_output)
        except ValueError as error:
            yield Violation(f"{path}.from_output", str(error))
        if first.setdefault(connection, index) != index:
            yield Violation(path, f"is the same as connections[{first[connection]}]")
