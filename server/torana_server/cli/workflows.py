"""`torana workflows`: what a server can run, and whether a file could."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import torana
from torana import Workflow
from torana_server.cli import candidates, output
from torana_server.cli.connection import Connection, connected
from torana_server.cli.definitions import definition_of
from torana_server.cli.embedded import is_workflow_file, read_workflow
from torana_server.cli.exits import Exit, UsageError
from torana_server.cli.grammar import command, group
from torana_server.cli.output import Format, Output
from torana_server.cli.reading import text_of
from torana_server.cli.view import (
    Head,
    Listing,
    names_cell,
    plan_to_draw,
    steps_listing,
    text_cell,
    time_cell,
    workflow_graph,
    workflow_heading,
)
from torana_server.core.errors import InvalidWorkflowError, Violation
from torana_server.workflow import Definition, StepSchema, definition_schema, from_yaml, revision_of, to_form
from torana_server.workflow_files import SUFFIXES

if TYPE_CHECKING:
    from torana_server.gateway import Gateway

PIPED_WIDTH = 100

commands = group("What a server can run.")


@command(commands, "list", examples=("torana workflows list", "torana workflows list -o json | jq -r '.[].name'"))
@connected
def list_(connection: Connection, *, output_format: Output = Format.TABLE) -> None:
    """List the workflows of a server."""
    with connection.blocking_client() as client:
        found = list(client.list_workflows())
    output.answer_listing([_summary(one) for one in found], output_format, workflows_listing(found, datetime.now(UTC)))


def _summary(workflow: Workflow) -> dict[str, Any]:
    """Without the definition, which lists leave out."""
    members = {name: getattr(workflow, name) for name in Workflow.__slots__}
    members.pop("definition")
    return members


def workflows_listing(workflows: Sequence[Workflow], now: datetime) -> Listing:
    heads = Head("name"), Head("revision"), Head("registered", right=True), Head("resources", gives_way=True)
    return Listing(
        heads=(*heads, Head("description", gives_way=True)),
        rows=[
            (
                text_cell(one.name),
                text_cell(one.revision[:12], "dim"),
                time_cell(one.create_time, now),
                names_cell(one.required_resources),
                text_cell(one.description.partition("\n")[0]),
            )
            for one in workflows
        ],
        empty="the server has no workflows; give it a folder of YAML files: torana serve --workflows DIR",
    )


@command(
    commands,
    "show",
    examples=(
        "torana workflows show etl",
        "torana workflows show etl.yaml",
        "torana workflows show etl -o yaml > etl.yaml",
    ),
)
@connected
def show(
    connection: Connection,
    *,
    name: Annotated[
        str,
        typer.Argument(help="A workflow of the server, or a YAML FILE.", autocompletion=candidates.workflows_and_files),
    ],
    revision: Annotated[str, typer.Option(help="A particular revision; the current one by default.")] = "",
    output_format: Output = Format.TABLE,
) -> None:
    """Draw a workflow: its steps in layers, the routes between them, and what each step needs.

    Steps of one layer do not wait for each other. As JSON or YAML it is the definition, which `serve`, `run` and
    `validate` read.
    """
    definition = _definition(connection, name, revision)
    output.answer(to_form(definition), output_format, lambda console: _draw(definition, console))


def _definition(connection: Connection, name: str, revision: str) -> Definition:
    if is_workflow_file(name):
        return read_workflow(Path(name))
    with connection.blocking_client() as client:
        found = client.get_workflow(name, revision)
    assert found.definition is not None, "GetWorkflow returns the definition"
    return definition_of(found.definition)


def _draw(definition: Definition, console: Console) -> None:
    plan = plan_to_draw(definition)
    width = PIPED_WIDTH if console.soft_wrap else console.width
    graph = workflow_graph(plan, width=width, unicode=output.draws_lines(console))
    for line in (*workflow_heading(plan), Text(), *graph, Text()):
        console.print(line)
    output.print_listing(steps_listing(plan), console)


# validate


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is empty for what concerns the whole file."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Checked:
    """`name`, `revision` and `required_resources` are empty for a file with problems."""

    file: str
    valid: bool
    name: str
    revision: str
    required_resources: tuple[str, ...]
    problems: tuple[Problem, ...]


@command(
    commands,
    "validate",
    examples=(
        "torana workflows validate workflows",
        "torana workflows validate etl.yaml --server-side",
        "torana workflows validate etl.yaml -o json | jq '.[].problems'",
    ),
)
@connected
def validate(
    connection: Connection,
    *,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Workflows as YAML or JSON, or a folder of them; `-`: stdin.")
    ],
    server_side: Annotated[
        bool, typer.Option("--server-side", help="Ask the server, which also knows its own step types and functions.")
    ] = False,
    output_format: Output = Format.TABLE,
) -> Exit:
    """Check workflow files and tell everything that is wrong with them, with where it is.

    No server is needed unless --server-side asks one. The code is 2 when a file is not valid.
    """
    if server_side:
        with connection.blocking_client() as client:
            checked = [_checked(file, client) for file in _files(files)]
    else:
        checked = [_checked(file, None) for file in _files(files)]
    output.answer(checked, output_format, lambda console: _print_checked(checked, console))
    return Exit.COMPLETED if all(one.valid for one in checked) else Exit.USAGE


def _files(given: Sequence[Path]) -> Iterator[Path]:
    """In place of a folder the files that `torana serve --workflows` would serve of it."""
    for path in given:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES and one.name[0] != ".")
        if not inside:
            raise UsageError(f"{path} holds no workflow: no file there ends in {' or '.join(SUFFIXES)}")
        yield from inside


def _checked(file: Path, client: torana.BlockingClient | None) -> Checked:
    try:
        definition = from_yaml(text_of(str(file)))
        required = _check_on_server(definition, client) if client else _check_here(definition)
    except InvalidWorkflowError as error:
        problems = tuple(Problem(one.path, one.message) for one in error.violations) or (Problem("", error.message),)
        return Checked(str(file), False, "", "", (), problems)
    return Checked(str(file), True, definition.name, revision_of(definition), required, ())


def _check_here(definition: Definition) -> tuple[str, ...]:
    gateway = _gateway()
    gateway.register_workflow(definition.name, definition)
    return gateway.workflows[definition.name].plan.required_resources


def _gateway() -> Gateway:
    """One that knows the step types of this installation and is never started."""
    from torana_server.gateway import Gateway  # noqa: PLC0415 — takes a while, and most commands start no server

    return Gateway(enable_durability=False)


def _check_on_server(definition: Definition, client: torana.BlockingClient) -> tuple[str, ...]:
    """Raises InvalidWorkflowError with what the server says."""
    answer = client.validate_workflow(to_form(definition))
    if answer.is_valid:
        return answer.required_resources
    violations = [Violation(one.path, one.message) for one in answer.problems]
    raise InvalidWorkflowError("the server refuses the definition", violations=violations)


def _print_checked(checked: Sequence[Checked], console: Console) -> None:
    for one in checked:
        if one.valid:
            needs = f", needs {', '.join(one.required_resources)}" if one.required_resources else ""
            about = f" {one.name}, revision {one.revision[:12]}{needs}"
            console.print(Text.assemble(("valid   ", "green"), f"{one.file}: ", (about.strip(), "dim")))
        for problem in one.problems:
            where = f"{one.file}: {problem.path}".removesuffix(": ")
            console.print(Text.assemble(("invalid ", "red"), f"{where}: {problem.message}"))


@command(
    commands,
    "schema",
    examples=("torana workflows schema > workflow.schema.json", "torana workflows schema --server-side"),
)
@connected
def schema(
    connection: Connection,
    *,
    server_side: Annotated[
        bool, typer.Option("--server-side", help="With the step types of the server, which may have its own.")
    ] = False,
    output_format: Output = Format.JSON,
) -> None:
    """Print the JSON Schema of workflow files, by which editors complete and check them.

    No server is needed unless --server-side asks one.
    """
    found = _schema_of_server(connection) if server_side else _gateway().workflow_schema()
    output.whole(found, output_format)


def _schema_of_server(connection: Connection) -> dict[str, Any]:
    with connection.blocking_client() as client:
        types = list(client.list_step_types())
    return definition_schema(StepSchema(one.name, one.description, json.loads(one.config_schema)) for one in types)
