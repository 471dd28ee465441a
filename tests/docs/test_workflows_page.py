"""What docs/workflows.md lists is all there is, in the code's own names."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import yaml

from docs.pages import ROOT, Block, blocks, pages
from torana_server import StepContext, WorkflowBuilder
from torana_server.steps import FunctionRegistry
from torana_server.steps.source import PROTECTED_NAMES
from torana_server.steps.threads import StepThreads
from torana_server.steps.types import built_in_types
from torana_server.steps.types.code import PROVIDED_NAMES
from torana_server.workflow.templates import Root

PAGE = ROOT / "docs/workflows.md"
SCHEMA = json.loads((ROOT / "schemas/workflow.schema.json").read_text("utf-8"))
DEFINITIONS = [
    block
    for page in pages()
    for block in blocks(page)
    if block.language == "yaml" and not block.reason and "steps:" in block.text
]


def section(title: str) -> str:
    return re.split(rf"^##+ {title}$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """What stands in code in the first column of every table."""
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    return [code for cell in rows for code in re.findall(r"`([^`]+)`", cell)]


def test_every_name_that_a_source_step_has_is_in_the_table_and_no_other() -> None:
    table = section("Names in scope").split("The step context also has")[0]
    names = {re.sub(r"^await |\(.*$", "", cell) for cell in first_cells(table)}
    assert names == PROVIDED_NAMES


def test_the_names_that_inputs_never_shadow_are_named() -> None:
    said = section("Names in scope").partition(". Inputs may have the same names, but for ")[2].partition(".\n")[0]
    assert set(re.findall(r"`(\w+)`", said)) == PROTECTED_NAMES


def test_everything_of_the_step_context_is_in_one_of_the_tables() -> None:
    public = {name for name in vars(StepContext) if not name.startswith("_")} - {"close"}
    told = {cell.removeprefix("ctx.") for cell in first_cells(section("Names in scope")) if cell.startswith("ctx.")}
    assert public == told | (public & PROVIDED_NAMES)


def test_every_step_type_is_listed_with_the_fields_of_its_config() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", section("Step types"), re.MULTILINE)
    listed = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}
    built_in = built_in_types(FunctionRegistry(), StepThreads(1))
    assert listed == {one.name: set(one.Config.model_fields) for one in built_in}


def test_every_method_of_the_builder_is_listed() -> None:
    public = {name for name in vars(WorkflowBuilder) if not name.startswith("_")}
    assert {cell.partition("(")[0] for cell in first_cells(section("As JSON, and in Python"))} == public


def test_every_root_of_a_template_is_listed() -> None:
    roots = {cell.strip("${}").partition(".")[0] for cell in first_cells(section("Templates"))} - {"x"}
    assert roots == set(Root)


@pytest.mark.parametrize("block", DEFINITIONS, ids=str)
def test_every_definition_of_the_pages_fits_the_schema_that_editors_use(block: Block) -> None:
    jsonschema.validate(yaml.safe_load(block.text), SCHEMA)
