"""Step types: what each is, and the catalog that holds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, ClassVar, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from torana_server.core.errors import (
    ConflictError,
    InvalidRequestError,
    Reason,
    StepError,
    TypeNotFoundError,
    Violation,
)
from torana_server.core.ids import NAME_RULE, is_name
from torana_server.core.names import did_you_mean
from torana_server.steps.context import StepContext
from torana_server.workflow import holds_template

ENTRY_POINT_GROUP = "torana.step_types"

LITERAL: Final[dict[str, Any]] = {"x-template": False}
"""`json_schema_extra` of a config field in which templates are not expanded, such as source text."""


class StepConfig(BaseModel):
    """Base of config models: unknown keys are refused, and a validated config is shared by attempts, so frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ConfigT = TypeVar("ConfigT", bound=StepConfig)


@dataclass(frozen=True, slots=True)
class Routed:
    """The output of a step that chose a route."""

    value: object
    route: str


class StepType(ABC, Generic[ConfigT]):
    """One type of step. A subclass gives `name`, `description`, `Config` and `run`; the rest where it differs.

    One object serves all attempts at once, so it keeps nothing of an attempt on itself.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    Config: type[ConfigT]

    @abstractmethod
    async def run(self, ctx: StepContext, config: ConfigT, inputs: dict[str, object]) -> object:
        """The output, or `Routed`. Raises what it likes: it fails the attempt. `inputs` may be kept and changed."""

    def check(self, config: ConfigT) -> Iterable[Violation]:
        """What the model alone cannot see. Not asked while a template stands where the model wants another type."""
        return ()

    def routes(self, config: Mapping[str, object]) -> frozenset[str]:
        """Routes besides "" and "error", from a config that may still be invalid."""
        return frozenset()

    def requires(self, config: Mapping[str, object]) -> frozenset[str]:
        """What a server must have to run a step with this config, which may still be invalid."""
        return frozenset({self.name})

    def capabilities(self) -> frozenset[str]:
        """Everything that `requires` can name and this server has."""
        return frozenset({self.name})

    def config_schema(self) -> dict[str, Any]:
        """The JSON Schema of `config`."""
        return self.Config.model_json_schema()

    @cached_property
    def literal_fields(self) -> frozenset[str]:
        """Top-level config keys in which templates are not expanded."""
        properties = self.config_schema().get("properties", {})
        return frozenset(key for key, schema in properties.items() if schema.get("x-template") is False)

    def problems(self, config: Mapping[str, object]) -> list[Violation]:
        """Everything wrong with `config`, with paths relative to it; a templated text may become any type."""
        try:
            valid = self.Config.model_validate(dict(config))
        except ValidationError as error:
            return [self._violation(detail) for detail in error.errors() if not self._is_templated(detail)]
        return list(self.check(valid))

    def validated(self, config: Mapping[str, object]) -> ConfigT:
        """The model of a rendered config. Raises StepError (TEMPLATE_ERROR): unrendered it was valid."""
        try:
            return self.Config.model_validate(dict(config))
        except ValidationError as error:
            found = [self._violation(detail) for detail in error.errors()]
            raise StepError(
                f"the config does not fit once its templates have values: {'; '.join(map(str, found))}",
                reason=Reason.TEMPLATE_ERROR,
                metadata={"path": f"config.{found[0].path}"},
            ) from None

    def has_templates(self, config: Mapping[str, object]) -> bool:
        return any(contains_template(value) for key, value in config.items() if key not in self.literal_fields)

    def _is_templated(self, detail: ErrorDetails) -> bool:
        field = detail["loc"][0] if detail["loc"] else ""
        value = detail["input"]
        return field not in self.literal_fields and isinstance(value, str) and holds_template(value)

    def _violation(self, detail: ErrorDetails) -> Violation:
        path = _path(detail["loc"])
        if detail["type"] == "missing":
            return Violation(path, "is required")
        if detail["type"] == "extra_forbidden":
            return Violation(path, "is an unknown key" if len(detail["loc"]) > 1 else self._unknown_key(path))
        return Violation(path, detail["msg"])

    def _unknown_key(self, key: str) -> str:
        keys = list(self.Config.model_fields)
        return f"is no key of {self.name!r}; its keys are {', '.join(keys) or 'none'}{did_you_mean(key, keys)}"


def contains_template(value: object) -> bool:
    """Whether a text anywhere in `value` is only known when the step runs."""
    if isinstance(value, str):
        return holds_template(value)
    if isinstance(value, Mapping):
        return any(map(contains_template, value.values()))
    return isinstance(value, list | tuple) and any(map(contains_template, value))


def _path(location: Sequence[str | int]) -> str:
    """`("cases", "high", 0)` as `cases.high[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


class StepTypes:
    """The catalog of step types (`workflow.StepCatalog`). Built-in types come in by `register` like any other."""

    def __init__(self) -> None:
        self._types: dict[str, StepType[Any]] = {}

    def register(self, step_type: StepType[Any]) -> None:
        """Raises InvalidRequestError for what is no step type, ConflictError for a name that is taken."""
        if not isinstance(step_type, StepType):
            raise InvalidRequestError(f"a step type is an object of a subclass of StepType, not {step_type!r}")
        if not is_name(step_type.name):
            raise InvalidRequestError(f"{step_type.name!r} cannot name a step type: it needs {NAME_RULE}")
        if self._types.setdefault(step_type.name, step_type) is not step_type:
            raise ConflictError(f"step type {step_type.name!r} is registered already; choose another name")

    def load_entry_points(self) -> None:
        """Registers what installed packages offer in the group `torana.step_types`: subclasses of StepType that need
        no arguments, or objects of one. Raises InvalidRequestError naming the entry point that cannot be loaded."""
        for entry in entry_points(group=ENTRY_POINT_GROUP):
            try:
                offered = entry.load()
            except (ImportError, AttributeError) as error:
                raise InvalidRequestError(
                    f"entry point {entry.name!r} of {ENTRY_POINT_GROUP} ({entry.value}) cannot be loaded: {error}"
                ) from error
            self.register(offered() if isinstance(offered, type) else offered)

    def get(self, type_name: str) -> StepType[Any] | None:
        return self._types.get(type_name)

    def find(self, type_name: str) -> StepType[Any]:
        """Raises TypeNotFoundError, suggesting the nearest name."""
        found = self._types.get(type_name)
        if found is None:
            raise TypeNotFoundError(
                f"step type {type_name!r} is unknown{did_you_mean(type_name, self._types)}; "
                f"there are {', '.join(self.names())}",
                metadata={"type": type_name},
            )
        return found

    def names(self) -> list[str]:
        return sorted(self._types)

    def capabilities(self) -> frozenset[str]:
        """What this server can run, in the words of `StepSpec.requires`."""
        return frozenset().union(*(step_type.capabilities() for step_type in self._types.values()))
