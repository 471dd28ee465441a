"""What compiling a workflow needs to know of step types, without knowing the step types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torana_server.core.errors import Violation


class StepSpec(Protocol):
    """The part of a step type that validation and the plan need. Everything here is pure and cheap."""

    @property
    def name(self) -> str: ...

    @property
    def literal_fields(self) -> frozenset[str]:
        """Top-level config keys in which templates are not expanded (`x-template: false`), such as source text."""

    def problems(self, config: Mapping[str, object]) -> Sequence[Violation]:
        """Everything wrong with `config`, paths relative to it (`url`, `cases.high`); empty when valid.

        A string that holds a template stands for a value of any type, since it is rendered later.
        """

    def routes(self, config: Mapping[str, object]) -> frozenset[str]:
        """Routes this step can take besides "" and "error". Empty for a step that is not a switch."""

    def requires(self, config: Mapping[str, object]) -> frozenset[str]:
        """What a server must have to run this step: the type's name, and `function:NAME@VERSION` for functions."""


class StepCatalog(Protocol):
    def get(self, type_name: str) -> StepSpec | None: ...

    def names(self) -> Sequence[str]:
        """Every type, sorted; used to suggest the nearest name."""
