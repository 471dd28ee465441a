"""`torana executions`: what ran and what runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

import torana
from torana import Event, Execution, ExecutionResult
from torana_server.cli import candidates, output
from torana_server.cli.connection import Connection, connected
from torana_server.cli.exits import Exit
from torana_server.cli.export import export
from torana_server.cli.filters import State, execution_filter
from torana_server.cli.grammar import command, group
from torana_server.cli.output import Format, Output
from torana_server.cli.view import (
    ExecutionView,
    PlainLines,
    Waterfall,
    applied,
    error_lines,
    event_members,
    execution_heading,
    executions_listing,
    lanes_of,
    lanes_of_statuses,
    plural,
    result_lines,
    step_error_lines,
    waterfall_lines,
)
from torana_server.cli.watch import watch_one

LIMIT = 50
PAGE_SIZE_MAX = 1_000
PIPED_WIDTH = 100
CHOOSING = "Choosing"

commands = group("What ran and what runs.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of an execution.", autocompletion=candidates.executions)]


@command(
    commands,
    "list",
    examples=(
        "torana executions list --state failed --since 1d",
        "torana executions list --workflow etl --label team=a --limit 5",
        "torana executions list --filter 'session_id = \"s-17\"' -o json",
    ),
)
@connected
def list_(
    connection: Connection,
    *,
    workflow: Annotated[
        str,
        typer.Option(
            "--workflow", "-w", rich_help_panel=CHOOSING, help="Of this workflow.", autocompletion=candidates.workflows
        ),
    ] = "",
    state: Annotated[
        State | None,
        typer.Option("--state", "-s", metavar="STATE", rich_help_panel=CHOOSING, help=f"In it: {', '.join(State)}."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", metavar="NAME=VALUE", rich_help_panel=CHOOSING, help="With all of these."),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", rich_help_panel=CHOOSING, help="Accepted after: 15m, 2h, 7d ago, or a time.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", rich_help_panel=CHOOSING, help="Accepted before.")] = "",
    filter_text: Annotated[
        str,
        typer.Option("--filter", metavar="FILTER", rich_help_panel=CHOOSING, help="And this, as the API takes it."),
    ] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=0, help=f"At most so many; 0: all. [{LIMIT}]")
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """List executions, newest first. Every condition given must hold."""
    now = datetime.now(UTC)
    chosen = execution_filter(
        workflow=workflow, state=state, labels=labels or (), since=since, until=until, raw=filter_text, now=now
    )
    with connection.blocking_client() as client:
        count = LIMIT if limit is None else limit
        page_size = min(count + 1, PAGE_SIZE_MAX) if count else PAGE_SIZE_MAX
        found = list(islice(client.list_executions(chosen, page_size=page_size), count + 1 if count else None))
    shown = found[:count] if count else found
    output.answer_listing([_summary(one) for one in shown], output_format, executions_listing(shown, now))
    if len(found) > len(shown) and limit is None:
        output.note(f"only the latest {count} are shown; --limit 0 shows all")


def _summary(execution: Execution) -> dict[str, Any]:
    """Without what lists leave out."""
    return {name: getattr(execution, name) for name in Execution.__slots__ if name not in ("result", "steps")}


@command(
    commands,
    "show",
    examples=("torana executions show 019bbf52-7cd0-7191-b1f0-cfa7603d3135", "torana executions show ID --events"),
)
@connected
def show(
    connection: Connection,
    *,
    execution: Id,
    events: Annotated[bool, typer.Option("--events", "-e", help="Also list its events.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Show an execution: its steps over time, its error or its result.

    A bar is an attempt, dots are the pause before the next one.
    """
    with connection.blocking_client() as client:
        found = client.get_execution(execution)
        told = read_events(client, found) if events or output_format is Format.TABLE else []
    members = {name: getattr(found, name) for name in Execution.__slots__}
    if events:
        members["events"] = [event_members(event) for event in told]
    output.answer(members, output_format, lambda console: _draw(found, told, console, events_wanted=events))


def read_events(client: torana.BlockingClient, execution: Execution) -> list[Event]:
    """Up to the latest that `execution` tells of; none when they have expired."""
    try:
        with client.watch(execution.id) as stream:
            return list(_up_to(stream, execution.latest_sequence))
    except torana.errors.EventsExpiredError:
        return []


def _up_to(stream: Any, sequence: int) -> Iterator[Event]:
    for event in stream:
        yield event
        if event.sequence >= sequence:
            return


def _draw(execution: Execution, events: list[Event], console: Console, *, events_wanted: bool) -> None:
    now = datetime.now(UTC)
    width = PIPED_WIDTH if console.soft_wrap else console.width
    for line in execution_heading(execution, now):
        console.print(line)
    lanes = lanes_of(events) if events else lanes_of_statuses(execution)
    start = execution.start_time or execution.create_time or now
    drawn = waterfall_lines(
        Waterfall(start, execution.end_time or now, lanes), width=width, unicode=output.draws_lines(console)
    )
    for line in [Text(), *drawn] if drawn else []:
        console.print(line)
    errors = [*step_error_lines(execution), *(error_lines(execution.error) if execution.error else ())]
    for line in [Text(), *errors] if errors else []:
        console.print(line)
    _print_result(execution, events, console, width)
    if events_wanted:
        _print_events(events, console)


def _print_result(execution: Execution, events: list[Event], console: Console, width: int) -> None:
    if not execution.result:
        return
    view = ExecutionView()
    for event in events:
        view = applied(view, event)
    result = ExecutionResult(
        execution_id=execution.id,
        status=execution.state,
        result=execution.result,
        error=execution.error,
        event_count=execution.latest_sequence,
    )
    console.print()
    output.print_json(result_lines(result, view, width), console)


def _print_events(events: list[Event], console: Console) -> None:
    console.print()
    console.print(Text(plural(len(events), "event") if events else "its events have expired", "bold"))
    lines = PlainLines()
    for event in events:
        for line in lines.of(event):
            console.print(line)


@command(
    commands,
    "cancel",
    examples=(
        "torana executions cancel ID --reason 'wrong day' --wait",
        "torana executions list -s running | cut -f1 | xargs torana executions cancel",
    ),
)
@connected
def cancel(
    connection: Connection,
    *,
    executions: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="Ids of executions.", autocompletion=candidates.unfinished_executions),
    ],
    reason: Annotated[str, typer.Option(help="For people; it is kept with the execution.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when they have ended.")] = False,
    output_format: Output = Format.TABLE,
) -> Exit:
    """Ask for executions to be cancelled. Running steps clean up first.

    Nothing is asked: `torana executions retry` goes on with what was cancelled, and reuses the steps that completed.
    The code is 2 when one of them had ended already; the others are cancelled all the same. With --wait it is 1 when
    one ended in another way before the cancel reached it.
    """
    asked: list[Execution] = []
    with connection.blocking_client() as client:
        finished = [error for one in executions if (error := _cancelled(client, one, reason, asked))]
        if wait:
            asked = [_ended(client, one.id) for one in asked]
    if asked or not finished:
        shown = executions_listing(asked, datetime.now(UTC))
        output.answer_listing([_summary(one) for one in asked], output_format, shown)
    for error in finished:
        output.report(str(error))
    if finished:
        return Exit.USAGE
    return Exit.FAILED if wait and any(one.state != "cancelled" for one in asked) else Exit.COMPLETED


def _cancelled(
    client: torana.BlockingClient, execution: str, reason: str, asked: list[Execution]
) -> torana.errors.StateError | None:
    """Adds it to `asked`, or returns why it cannot be cancelled any more."""
    try:
        asked.append(client.cancel_execution(execution, reason))
    except torana.errors.StateError as error:
        return error
    return None


def _ended(client: torana.BlockingClient, execution_id: str) -> Execution:
    with client.watch(execution_id, kinds=("cancelled",)) as stream:
        stream.result()
    return client.get_execution(execution_id)


@command(commands, "retry", examples=("torana executions retry ID --watch",))
@connected
def retry(
    connection: Connection,
    *,
    execution: Id,
    watch: Annotated[bool, typer.Option("--watch", help="Watch the new execution to its end.")] = False,
    output_format: Output = Format.TABLE,
) -> Exit:
    """Run an execution that failed or was cancelled again, without the steps that completed.

    That is a new execution with the same request and revision; its id is printed.
    """
    with connection.blocking_client() as client:
        started = client.retry_execution(execution)
    if watch:
        return watch_one(connection, started.id, form=output_format)
    output.answer(_summary(started), output_format, lambda console: output.write_line(started.id))
    output.note(f"watch it: torana watch {started.id}{connection.shown}")
    return Exit.COMPLETED


command(
    commands,
    "export",
    examples=(
        "torana executions export ID > execution.jsonl",
        "torana executions export ID ID --file executions.jsonl",
        "torana executions export ID | jq 'select(.kind == \"step_log\").data.message'",
    ),
)(export)
