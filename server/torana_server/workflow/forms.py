"""The JSON form of a definition. `yaml_form` writes and reads the same form as YAML.

What is at its default is left out, so that a definition keeps its revision when the form grows. Durations are numbers
of seconds; reading also takes text such as "5m".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from torana_server.core.errors import InvalidRequestError, InvalidWorkflowError, Violation
from torana_server.core.ids import NAME_PATTERN, NAME_RULE
from torana_server.core.names import did_you_mean
from torana_server.core.values import parse
from torana_server.workflow.definition import (
    NO_RETRY,
    Connection,
    Definition,
    Durability,
    RetryPolicy,
    Step,
    StepTimeout,
)
from torana_server.workflow.durations import PATTERN, parse_duration, written_duration

_DURATION_SCHEMA = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": PATTERN}]}
_Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]


# Bounds that editors are told. What breaks them is refused when the definition is compiled, with its place.
_NAME: dict[str, JsonValue] = {"pattern": f"^{NAME_PATTERN}$"}
_POSITIVE: dict[str, JsonValue] = {"minimum": 1}


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _RetryForm(_Form):
    """How often and when a failed step is tried again."""

    max_attempts: int = Field(
        NO_RETRY.max_attempts, description="Failures allowed in all, the first included.", json_schema_extra=_POSITIVE
    )
    initial_interval: _Duration = Field(NO_RETRY.initial_interval_s, description="Pause after the first failure.")
    backoff: float = Field(
        NO_RETRY.backoff,
        description="Factor from one pause to the next.",
        json_schema_extra={"minimum": 1, "maximum": 1_000},
    )
    max_interval: _Duration = Field(
        NO_RETRY.max_interval_s, description="Upper bound of a pause, no shorter than initial_interval."
    )
    jitter: float = Field(
        NO_RETRY.jitter,
        description="Share of a pause that is random, 0 to 1.",
        json_schema_extra={"minimum": 0, "maximum": 1},
    )
    retry_on: list[str] = Field([], description="Error types that are tried again. Empty: all.")
    never_retry_on: list[str] = Field([], description="Error types that never are. Wins over retry_on.")

    def policy(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self.max_attempts,
            initial_interval_s=self.initial_interval,
            backoff=self.backoff,
            max_interval_s=self.max_interval,
            jitter=self.jitter,
            retry_on=tuple(self.retry_on),
            never_retry_on=tuple(self.never_retry_on),
        )


class _TimeoutForm(_Form):
    """Limits of time for one step."""

    attempt: _Duration = Field(StepTimeout().attempt_s, description="One attempt.")
    total: _Duration | None = Field(None, description="All attempts with the pauses between them. Unset: none.")

    @model_validator(mode="before")
    @classmethod
    def _attempt_alone(cls, form: object) -> object:
        return {"attempt": form} if isinstance(form, str | int | float) and not isinstance(form, bool) else form

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), *_DURATION_SCHEMA["anyOf"]]}


class _StepForm(_Form):
    """One node of the graph."""

    name: str = Field(description=f"What the step is called: {NAME_RULE}.", json_schema_extra=_NAME)
    type: str = Field(description="What the step does.")
    config: dict[str, object] = Field({}, description="Checked against the type's schema. May hold templates.")
    inputs: dict[str, object] = Field({}, description="Static inputs, which win over all others. May hold templates.")
    required_resources: list[str] = Field([], description="The resources the step may use. Empty: all bound ones.")
    credentials_ref: str = Field("", description="Secret for step types that need credentials of their own.")
    retry: _RetryForm | None = Field(None, description="Overrides the workflow's policy.")
    timeout: _TimeoutForm = Field(
        default_factory=lambda: _TimeoutForm.model_validate({}),
        description="Limits of time for the step. A duration alone is that of one attempt.",
    )

    def step(self) -> Step:
        return Step(
            name=self.name,
            type=self.type,
            config=self.config,
            inputs=self.inputs,
            required_resources=tuple(self.required_resources),
            credentials_ref=self.credentials_ref,
            retry=self.retry.policy() if self.retry else None,
            timeout=StepTimeout(attempt_s=self.timeout.attempt, total_s=self.timeout.total),
        )


class _ConnectionForm(_Form):
    """An edge: an output of one step becomes an input of another."""

    from_step: str = Field(description="Name of the step whose output it is.")
    to_step: str = Field(description="Name of the step whose input it becomes.")
    from_output: str = Field("", description='Dotted path into the output, "rows.0.id". Empty: the whole output.')
    to_input: str = Field("", description="Name of the input. Empty: the last part of from_output.")
    route: str = Field("", description='A route of a switch, or "error".')

    def connection(self) -> Connection:
        return Connection(**dict(self))


class _DefinitionForm(_Form):
    """A named graph of steps."""

    name: str = Field(description=f"What requests call the workflow: {NAME_RULE}.", json_schema_extra=_NAME)
    description: str = Field("", description="What the workflow is for.")
    labels: dict[str, str] = Field({}, description="Texts by name, to find workflows by.")
    steps: list[_StepForm] = Field(
        description="The nodes of the graph, at least one.", json_schema_extra={"minItems": 1}
    )
    connections: list[_ConnectionForm] = Field([], description="Without any the steps run one after another.")
    timeout: _Duration | None = Field(None, description="For a whole execution. Unset: none.")
    retry: _RetryForm = Field(
        default_factory=lambda: _RetryForm.model_validate({}),
        description="When failed steps are tried again, unless a step says otherwise.",
    )
    durability: Literal["every_step", "every_n_steps", "stage_boundaries"] = Field(
        "every_step",
        description="When completed steps are committed. What was not yet committed runs again after a crash.",
    )
    durability_steps: int = Field(
        1, description="For every_n_steps: how many completions share a commit.", json_schema_extra=_POSITIVE
    )

    def definition(self) -> Definition:
        return Definition(
            name=self.name,
            description=self.description,
            labels=self.labels,
            steps=tuple(form.step() for form in self.steps),
            connections=tuple(form.connection() for form in self.connections),
            timeout_s=self.timeout,
            retry=self.retry.policy(),
            durability=Durability(self.durability),
            durability_steps=self.durability_steps,
        )


_FORMS: dict[str, type[_Form]] = {
    "steps": _StepForm,
    "connections": _ConnectionForm,
    "retry": _RetryForm,
    "timeout": _TimeoutForm,
}


# reading


def from_json(source: str | bytes | Mapping[str, object]) -> Definition:
    """The definition of a JSON text or of the object it holds.

    Raises InvalidWorkflowError with all that is wrong with the form; what the definition means is checked by compiling.
    """
    if isinstance(source, Mapping):
        return from_form(source)
    try:
        return from_form(parse(source.decode() if isinstance(source, bytes) else source))
    except UnicodeDecodeError as error:
        raise InvalidWorkflowError(f"the definition is not UTF-8 text: byte {error.start}") from None
    except InvalidWorkflowError:
        raise
    except InvalidRequestError as error:
        raise InvalidWorkflowError("the definition cannot be read", violations=error.violations) from None


def from_form(form: object) -> Definition:
    """The definition of an object in the JSON form. Raises InvalidWorkflowError."""
    try:
        return _DefinitionForm.model_validate(dict(form) if isinstance(form, Mapping) else form).definition()
    except ValidationError as error:
        violations = [_violation(details) for details in error.errors(include_url=False)]
        raise InvalidWorkflowError(
            "the definition does not have the form of a workflow", violations=violations
        ) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the form."""
    schema = _DefinitionForm.model_json_schema()
    text = json.dumps(schema).replace("_DefinitionForm", "Workflow")
    for name in ("Step", "Connection", "Retry", "Timeout"):
        text = text.replace(f"_{name}Form", name)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **json.loads(text)}


_MESSAGES = {
    "missing": "is required",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "model_type": "must be an object",
}


def _violation(details: ErrorDetails) -> Violation:
    location = details["loc"]
    return Violation(_path(location), _message(details, location))


def _message(details: ErrorDetails, location: tuple[int | str, ...]) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        owner = next((step for step in reversed(location[:-1]) if isinstance(step, str)), "")
        known = _FORMS.get(owner, _DefinitionForm).model_fields
        return f"unknown key{did_you_mean(str(location[-1]), known) or '; known are ' + ', '.join(known)}"
    if kind == "value_error":
        return str(details["ctx"]["error"])
    message = _MESSAGES.get(kind)
    if message is None:
        return details["msg"][:1].lower() + details["msg"][1:]
    if kind == "missing":
        return message
    expected = _FORMS.get(str(location[-1])) if kind == "model_type" and location else None
    keys = f"; its keys are {', '.join(expected.model_fields)}" if expected else ""
    return f"{message}, not {_kind_of(details['input'])}{keys}"


def _kind_of(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


# writing


def to_json(definition: Definition) -> str:
    """JSON text for people to read. `revision_of` hashes its canonical form."""
    return json.dumps(to_form(definition), ensure_ascii=False, indent=2, allow_nan=False)


def to_form(definition: Definition) -> dict[str, object]:
    """The object of the JSON form. Shares config and inputs with the definition."""
    form: dict[str, object] = {"name": definition.name}
    if definition.description:
        form["description"] = definition.description
    if definition.labels:
        form["labels"] = dict(definition.labels)
    form["steps"] = [_step_form(step) for step in definition.steps]
    if definition.connections:
        form["connections"] = [_connection_form(connection) for connection in definition.connections]
    if definition.timeout_s is not None:
        form["timeout"] = written_duration(definition.timeout_s)
    if definition.retry != NO_RETRY:
        form["retry"] = _retry_form(definition.retry)
    if definition.durability is not Durability.EVERY_STEP:
        form["durability"] = definition.durability.value
    if definition.durability_steps != 1:
        form["durability_steps"] = definition.durability_steps
    return form


def _step_form(step: Step) -> dict[str, object]:
    form: dict[str, object] = {"name": step.name, "type": step.type}
    if step.config:
        form["config"] = dict(step.config)
    if step.inputs:
        form["inputs"] = dict(step.inputs)
    if step.required_resources:
        form["required_resources"] = list(step.required_resources)
    if step.credentials_ref:
        form["credentials_ref"] = step.credentials_ref
    if step.retry is not None:
        form["retry"] = _retry_form(step.retry)
    if step.timeout != StepTimeout():
        form["timeout"] = _timeout_form(step.timeout)
    return form


def _connection_form(connection: Connection) -> dict[str, object]:
    form: dict[str, object] = {
        "from_step": connection.from_step,
        "from_output": connection.from_output,
        "to_step": connection.to_step,
        "to_input": connection.to_input,
        "route": connection.route,
    }
    return {key: value for key, value in form.items() if value or key in ("from_step", "to_step")}


def _retry_form(retry: RetryPolicy) -> dict[str, object]:
    """`max_attempts` is always there: an empty object would look like a mistake."""
    form: dict[str, object] = {"max_attempts": retry.max_attempts}
    if retry.initial_interval_s != NO_RETRY.initial_interval_s:
        form["initial_interval"] = written_duration(retry.initial_interval_s)
    if retry.backoff != NO_RETRY.backoff:
        form["backoff"] = retry.backoff
    if retry.max_interval_s != NO_RETRY.max_interval_s:
        form["max_interval"] = written_duration(retry.max_interval_s)
    if retry.jitter != NO_RETRY.jitter:
        form["jitter"] = retry.jitter
    if retry.retry_on:
        form["retry_on"] = list(retry.retry_on)
    if retry.never_retry_on:
        form["never_retry_on"] = list(retry.never_retry_on)
    return form


def _timeout_form(timeout: StepTimeout) -> dict[str, object]:
    form: dict[str, object] = {"attempt": written_duration(timeout.attempt_s)}
    if timeout.total_s is not None:
        form["total"] = written_duration(timeout.total_s)
    return form
