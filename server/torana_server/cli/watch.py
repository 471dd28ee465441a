"""`torana watch`: the events of one execution, or of all."""

from __future__ import annotations

from typing import Annotated

import typer

from torana_server.cli import output
from torana_server.cli.candidates import executions
from torana_server.cli.connection import Connection, connected
from torana_server.cli.displays import display_for
from torana_server.cli.exits import Exit, UsageError
from torana_server.cli.follow import Followed, follow, run_interruptibly
from torana_server.cli.output import Format, StreamOutput
from torana_server.cli.view import PlainLines, event_members


@connected
def watch(
    connection: Connection,
    *,
    execution: Annotated[
        str, typer.Argument(help="Id of an execution. Leave it out with --all or --filter.", autocompletion=executions)
    ] = "",
    after: Annotated[int, typer.Option(min=0, help="Only events with a higher sequence number.")] = 0,
    all_executions: Annotated[bool, typer.Option("--all", help="Every execution, from now on.")] = False,
    filter_text: Annotated[
        str, typer.Option("--filter", help='Those that match, such as `workflow = "etl" AND labels.team = "a"`.')
    ] = "",
    output_format: StreamOutput = Format.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, whole.")] = False,
) -> Exit:
    """Watch an execution from its beginning to its end, or all of them as they run.

    Watching changes nothing: Ctrl-C stops the watching alone. The exit code is that of the execution.
    """
    many = all_executions or bool(filter_text)
    if many == bool(execution):
        raise UsageError("name one execution, or give --all or --filter")
    if many and (after or quiet):
        raise UsageError("--after and --quiet are for one execution")
    if many:
        code = run_interruptibly(_watch_many(connection, filter_text, output_format))
        return Exit.INTERRUPTED if code is None else code
    return watch_one(connection, execution, after=after, form=output_format, quiet=quiet)


def watch_one(
    connection: Connection, execution: str, *, after: int = 0, form: Format = Format.TABLE, quiet: bool = False
) -> Exit:
    """Shows the events after a sequence until the execution ends; its code, or that Ctrl-C came first."""
    followed = Followed(execution, after)

    async def work() -> Exit:
        async with connection.client() as client:
            stream = client.watch(execution, after)
            return await follow(stream, display_for(form, quiet=quiet), followed)

    code = run_interruptibly(work())
    if code is None:
        output.note(f"Watch on: torana watch {execution} --after {followed.last_sequence}{connection.shown}")
        return Exit.INTERRUPTED
    return code


async def _watch_many(connection: Connection, filter_text: str, form: Format) -> Exit:
    console, lines = output.stdout(), PlainLines(named=True)
    async with connection.client() as client, client.watch_executions(filter_text) as feed:
        async for event in feed:
            if form is not Format.TABLE:
                output.item(event_members(event), form)
                continue
            for line in lines.of(event):
                console.print(line)
    return Exit.COMPLETED
