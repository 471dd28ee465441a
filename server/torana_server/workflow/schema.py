"""The JSON Schema of workflow files: the form of a definition, with the config of each type of step.

Where a config wants another type than text, a text that holds a template is allowed, too, unless the field is literal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torana_server.workflow.forms import json_schema

TEMPLATED: Final = {
    "type": "string",
    "pattern": r"\$\{|\{\{",
    "description": "A template, such as ${parameters.limit} or {{step.path}}.",
}


@dataclass(frozen=True, slots=True)
class StepSchema:
    """A type of step. `config` is the JSON Schema of its config; literal fields have `x-template: false`."""

    name: str
    description: str
    config: Mapping[str, Any]


def definition_schema(types: Iterable[StepSchema]) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a definition whose steps are of these types and no other."""
    known = sorted(types, key=lambda one: one.name)
    schema: dict[str, Any] = _without_titles(json_schema())
    step = schema["$defs"]["Step"]
    said = "; ".join(f"{one.name}: {one.description}" for one in known)
    step["properties"]["type"] |= {
        "enum": [one.name for one in known],
        "description": f"{step['properties']['type']['description']} {said}.",
    }
    step["allOf"] = [_config_of(one) for one in known]
    for one in known:
        schema["$defs"] |= _config_defs(one)
    return {"$schema": schema.pop("$schema"), "title": "Torana workflow", **schema}


def _config_of(one: StepSchema) -> dict[str, Any]:
    then: dict[str, Any] = {"properties": {"config": {"$ref": f"#/$defs/{_name(one)}"}}}
    if one.config.get("required"):
        then["required"] = ["config"]
    return {"if": {"properties": {"type": {"const": one.name}}, "required": ["type"]}, "then": then}


def _config_defs(one: StepSchema) -> dict[str, Any]:
    """The config's schema, and what it refers to, under names of its own."""
    moved = json.loads(json.dumps(one.config).replace('"#/$defs/', f'"#/$defs/{_name(one)}_'))
    inner = moved.pop("$defs", {})
    named = {_name(one): moved, **{f"{_name(one)}_{name}": schema for name, schema in inner.items()}}
    return {name: _without_titles(_templated(schema)) for name, schema in named.items()}


def _name(one: StepSchema) -> str:
    return f"config_{one.name}"


def _templated(schema: Any) -> Any:
    """An object's fields, and the elements and members of what is in them, may be templates."""
    if not isinstance(schema, Mapping):
        return schema
    changed = dict(schema)
    for key in ("properties", "patternProperties"):
        if key in schema:
            changed[key] = {name: _or_template(inner) for name, inner in schema[key].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            changed[key] = _or_template(schema[key])
    return changed


def _or_template(schema: Any) -> Any:
    if not isinstance(schema, Mapping) or schema.get("x-template") is False:
        return schema
    inner = _templated(schema)
    if _takes_any_text(inner):
        return inner
    told = {key: inner.pop(key) for key in ("description", "default", "title") if key in inner}
    return {**told, "anyOf": [inner, TEMPLATED]}


def _takes_any_text(schema: Mapping[str, Any]) -> bool:
    narrowed = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "pattern", "format"} & schema.keys()
    return not narrowed or (narrowed == {"type"} and schema["type"] == "string")


def _without_titles(schema: Any) -> Any:
    """Titles only repeat names. `properties` holds fields, of which one may be called title."""
    if isinstance(schema, list):
        return [_without_titles(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: _without_titles(one) for name, one in value.items()}
        if key in ("properties", "$defs")
        else _without_titles(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }
