"""`torana run`: run a workflow and watch it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

import torana
from torana_server.cli import arguments, output
from torana_server.cli.candidates import workflows_and_files
from torana_server.cli.connection import Connection, connected
from torana_server.cli.displays import display_for
from torana_server.cli.embedded import embedded_server, is_workflow_file, read_workflow
from torana_server.cli.exits import Exit, UsageError
from torana_server.cli.follow import Followed, follow, run_interruptibly
from torana_server.cli.output import Format, StreamOutput
from torana_server.cli.reading import source_name, text_of
from torana_server.settings import load_settings
from torana_server.workflow import Definition

REQUEST = "Request"


@dataclass(frozen=True, slots=True)
class Run:
    """What to run and how to show it."""

    workflow: str
    parameters: Mapping[str, Any]
    options: torana.RequestOptions
    form: Format = Format.TABLE
    quiet: bool = False
    followed: Followed = field(default_factory=Followed)

    async def on(self, connection: Connection) -> Exit:
        async with connection.client() as client:
            stream = client.execute(self.workflow, self.parameters, **self.options)
            return await follow(stream, display_for(self.form, quiet=self.quiet), self.followed)

    async def embedded(self, definition: Definition, data_dir: Path | None) -> Exit:
        async with embedded_server(definition, load_settings().settings, data_dir) as address:
            return await self.on(Connection(address))


@connected
def run(
    connection: Connection,
    *,
    context: typer.Context,
    workflow: Annotated[
        str,
        typer.Argument(
            help="Name of a workflow of the server, or a YAML FILE to run in this process.",
            autocompletion=workflows_and_files,
        ),
    ],
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="NAME=VALUE", rich_help_panel=REQUEST, help="A parameter: JSON, or else text."
        ),
    ] = None,
    params_json: Annotated[
        str, typer.Option(metavar="FILE", rich_help_panel=REQUEST, help="Parameters: a JSON object, `-` for stdin.")
    ] = "",
    resources: Annotated[
        list[str] | None,
        typer.Option(
            "--resource",
            metavar="NAME=@SHARED|JSON",
            rich_help_panel=REQUEST,
            help="Bind a name: to a shared resource, or to a reference.",
        ),
    ] = None,
    context_values: Annotated[
        list[str] | None,
        typer.Option("--context", metavar="NAME=VALUE", rich_help_panel=REQUEST, help="A context value, as -p."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", rich_help_panel=REQUEST, help="A label.")
    ] = None,
    idempotency_key: Annotated[
        str, typer.Option(rich_help_panel=REQUEST, help="The same key and request run once.")
    ] = "",
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", rich_help_panel=REQUEST, help="Fail after this long.")
    ] = None,
    output_format: StreamOutput = Format.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, whole.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the execution's id and leave it running.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(file_okay=False, help="With a FILE: keep journal and vault here.")
    ] = None,
) -> Exit:
    """Run a workflow: on a server, or from a YAML file in this process.

    Ctrl-C leaves an execution on a server running and says how to go on watching it.
    """
    request = Run(
        workflow=workflow,
        parameters=all_parameters(params_json, parameters or []),
        options=request_options(resources or [], context_values or [], labels or [], idempotency_key, timeout),
        form=output_format,
        quiet=quiet,
    )
    if is_workflow_file(workflow):
        _refuse_server_options(context, detach)
        return _run_file(request, Path(workflow), data_dir)
    if data_dir is not None:
        raise UsageError("--data-dir is for running a FILE; a server has its own")
    return _start(request, connection) if detach else _run_on_server(request, connection)


def all_parameters(params_json: str, typed: list[str]) -> dict[str, Any]:
    """Those of the file or standard input, then the single ones, which win."""
    if not params_json:
        return arguments.values(typed, "-p")
    given = arguments.json_object(text_of(params_json), source_name(params_json))
    return {**given, **arguments.values(typed, "-p")}


def request_options(
    resources: list[str], context: list[str], labels: list[str], idempotency_key: str, timeout: float | None
) -> torana.RequestOptions:
    return {
        "resources": arguments.bindings(resources),
        "context": arguments.values(context, "--context"),
        "labels": arguments.labels(labels),
        "idempotency_key": idempotency_key or None,
        "timeout": timeout,
    }


def _run_on_server(request: Run, connection: Connection) -> Exit:
    code = run_interruptibly(request.on(connection))
    if code is None:
        output.note(detached_hint(request.followed, connection))
        return Exit.INTERRUPTED
    return code


def detached_hint(followed: Followed, connection: Connection) -> str:
    if not followed.execution_id:
        return "Interrupted before the server had answered; it may have started the execution."
    watch = f"torana watch {followed.execution_id} --after {followed.last_sequence}{connection.shown}"
    return f"Detached; the execution goes on. Watch it again: {watch}"


def _run_file(request: Run, path: Path, data_dir: Path | None) -> Exit:
    definition = read_workflow(path)
    named = Run(definition.name, request.parameters, request.options, request.form, request.quiet)
    code = run_interruptibly(named.embedded(definition, data_dir))
    if code is None:
        kept = f" It goes on when a server starts on {data_dir}." if data_dir else ""
        output.note(f"Interrupted; the execution stopped with this command.{kept}")
        return Exit.INTERRUPTED
    return code


def _start(request: Run, connection: Connection) -> Exit:
    with connection.blocking_client() as client:
        execution = client.start_workflow(request.workflow, request.parameters, **request.options)
    output.answer(execution, request.form, lambda console: output.write_line(execution.id))
    output.note(f"watch it: torana watch {execution.id}{connection.shown}")
    return Exit.COMPLETED


def _refuse_server_options(context: typer.Context, detach: bool) -> None:
    if detach:
        raise UsageError("--detach needs a server that goes on; start one with `torana serve --workflows DIR`")
    source = context.get_parameter_source("address")
    if source is not None and source.name == "COMMANDLINE":
        raise UsageError("a FILE runs in this process, without --address; a server takes workflows from its operator")
