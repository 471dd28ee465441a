"""The JSON Schema of workflow files: what a server takes is valid, and what people get wrong is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from torana_server import Gateway, StepConfig, StepContext, StepType
from torana_server.workflow import StepSchema, definition_schema

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "schemas/workflow.schema.json"
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
GOOD = """
name: etl
labels: {team: data}
timeout: 5m
steps:
  - name: extract
    type: code
    config: {source: "return 1"}
    retry: {max_attempts: 3, initial_interval: 500ms}
    timeout: {attempt: 30}
  - {name: sort, type: switch, config: {cases: "${parameters.cases}", default: other}}
  - {name: put, type: compose, config: {value: ["{{extract}}"]}}
connections:
  - {from_step: extract, to_step: sort}
  - {from_step: sort, to_step: put, route: other}
"""


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    schema = yaml.safe_load(PUBLISHED.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def wrong(schema: Draft202012Validator, text: str) -> list[str]:
    return [error.message for error in schema.iter_errors(yaml.safe_load(text))]


def test_a_workflow_with_all_that_a_file_can_say_is_valid(schema) -> None:
    assert not wrong(schema, GOOD)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid_and_tells_editors_where_the_schema_is(schema, path: Path) -> None:
    text = path.read_text("utf-8")
    assert not wrong(schema, text)
    written = Path(os.path.relpath(PUBLISHED, path.parent)).as_posix()
    assert f"# yaml-language-server: $schema={written}\n" in text


@pytest.mark.parametrize(
    ("right", "mistaken"),
    [
        ("name: etl\n", ""),
        ("name: etl\n", "name: 'my flow'\n"),
        ("steps:", "step:"),
        ("type: code", "type: cod"),
        ("type: code", "typ: code"),
        ("{source:", "{sourc:"),
        ('    config: {source: "return 1"}\n', ""),
        ("max_attempts: 3", "max_attempts: 0"),
        ("max_attempts: 3", "attempts: 3"),
        ("initial_interval: 500ms", "initial_interval: soon"),
        ("timeout: {attempt: 30}", "timeout: {attempts: 30}"),
        ("timeout: {attempt: 30}", "timeout: soon"),
        ("cases: ", "case: "),
        ('"${parameters.cases}"', "none"),
        ("to_step: sort", "to: sort"),
        ("team: data", "team: 7"),
    ],
)
def test_what_people_get_wrong_is_not_valid(schema, right: str, mistaken: str) -> None:
    assert GOOD.count(right) >= 1
    assert wrong(schema, GOOD.replace(right, mistaken, 1))


def described(schema: Any, path: str = "") -> list[str]:
    """The fields without a description."""
    if isinstance(schema, list):
        return [found for one in schema for found in described(one, path)]
    if not isinstance(schema, dict):
        return []
    missing = [
        f"{path}.{name}"
        for name, field in schema.get("properties", {}).items()
        if isinstance(field, dict) and "description" not in field and "if" not in path.split(".")
    ]
    return missing + [found for key, value in schema.items() for found in described(value, f"{path}.{key}")]


def test_every_field_has_a_description() -> None:
    without = described(yaml.safe_load(PUBLISHED.read_text("utf-8")))
    assert [path for path in without if ".if" not in path and ".then" not in path] == []


class Part(BaseModel):
    size: int = Field(description="How large.")


class PressConfig(StepConfig):
    parts: list[Part] = Field(description="What to press.")
    mode: Literal["hot", "cold"] = Field("hot", description="How.")
    literal: int = Field(0, description="No template.", json_schema_extra={"x-template": False})


class Press(StepType[PressConfig]):
    name = "press"
    description = "Presses parts"
    Config = PressConfig

    async def run(self, ctx: StepContext, config: PressConfig, inputs: dict[str, object]) -> object:
        return None


def press(**config: object) -> dict[str, object]:
    return {"name": "flow", "steps": [{"name": "only", "type": "press", "config": config}]}


@pytest.mark.parametrize(
    ("config", "valid"),
    [
        ({"parts": [{"size": 1}], "mode": "cold"}, True),
        ({"parts": [{"size": "${parameters.size}"}], "mode": "${parameters.mode}"}, True),
        ({"parts": "{{load.parts}}"}, True),
        ({"parts": ["${parameters.part}"]}, True),
        ({"parts": [{"size": "large"}]}, False),
        ({"parts": [], "mode": "warm"}, False),
        ({"parts": [], "literal": "${parameters.size}"}, False),
        ({}, False),
    ],
)
def test_types_of_ones_own_are_checked_and_templates_may_stand_for_anything(config, valid: bool) -> None:
    gateway = Gateway(enable_durability=False)
    gateway.register_step_type(Press())
    assert Draft202012Validator(gateway.workflow_schema()).is_valid(press(**config)) is valid


def test_types_of_ones_own_do_not_mix_what_they_refer_to() -> None:
    schema = Press().config_schema()
    other = {**schema, "$defs": {"Part": {"type": "string"}}}
    both = definition_schema([StepSchema("press", "One.", schema), StepSchema("other", "Two.", other)])
    assert Draft202012Validator(both).is_valid(press(parts=[{"size": 1}]))
    assert not Draft202012Validator(both).is_valid(press(parts=["text"]))
