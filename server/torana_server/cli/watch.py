"""`torana watch`: the events of one execution, or of all."""

from __future__ import annotations

from typing import Annotated

import typer

from torana_server.cli import output
from torana_server.cli.connection import DEFAULT_ADDRESS, Address, Connection, Tls, TlsCa, TlsCert, TlsKey
from torana_server.cli.displays import display_for
from torana_server.cli.exits import EXIT_CODES, Exit, UsageError, errors_reported
from torana_server.cli.follow import Followed, follow, run_interruptibly
from torana_server.cli.output import Format, StreamOutput
from torana_server.cli.view import PlainLines, event_members


def watch(
    execution: Annotated[str, typer.Argument(help="Id of an execution. Leave it out with --all or --filter.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Only events with a higher sequence number.")] = 0,
    all_executions: Annotated[bool, typer.Option("--all", help="Every execution, from now on.")] = False,
    filter_text: Annotated[
        str, typer.Option("--filter", help='Those that match, such as `workflow = "etl" AND labels.team = "a"`.')
    ] = "",
    output_format: StreamOutput = Format.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, whole.")] = False,
    address: Address = DEFAULT_ADDRESS,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Watch an execution from its beginning to its end, or all of them as they run.

    Watching changes nothing: Ctrl-C stops the watching alone.
    """
    with errors_reported():
        connection = Connection(address, tls, tls_ca, tls_cert, tls_key)
        many = all_executions or bool(filter_text)
        if many == bool(execution):
            raise UsageError("name one execution, or give --all or --filter")
        if many and (after or quiet):
            raise UsageError("--after and --quiet are for one execution")
        if many:
            raise typer.Exit(run_interruptibly(_watch_many(connection, filter_text, output_format)) or Exit.INTERRUPTED)
        raise typer.Exit(_watch_one(connection, execution, after, output_format, quiet))


watch.__doc__ = f"{watch.__doc__}\n\n    {EXIT_CODES}"


def _watch_one(connection: Connection, execution: str, after: int, form: Format, quiet: bool) -> Exit:
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
