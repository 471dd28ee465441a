"""What makes two definitions the same."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from torana_server.core.values import canonical
from torana_server.workflow.definition import Definition
from torana_server.workflow.forms import to_form


def revision_of(definition: Definition) -> str:
    """SHA-256 of the canonical JSON form, lower-case hexadecimal. A function step counts as its name and version."""
    return hashlib.sha256(canonical_definition(definition).encode()).hexdigest()


def canonical_definition(definition: Definition) -> str:
    """The JSON form with sorted keys and no spaces. The definition's config and inputs must be JSON."""
    return canonical(normalised_value(to_form(definition)))


def normalised(definition: Definition) -> Definition:
    """The definition as it reads back from storage, sharing nothing with the original's config and inputs."""
    steps = tuple(
        dataclasses.replace(step, config=normalised_value(step.config), inputs=normalised_value(step.inputs))
        for step in definition.steps
    )
    return dataclasses.replace(definition, steps=steps, labels=dict(definition.labels))


def normalised_value(value: Any) -> Any:
    """Whole floats become integers, since the protobuf form cannot tell them apart; tuples become lists."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: normalised_value(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [normalised_value(element) for element in value]
    return value
