"""`torana executions export`: whole executions as JSON lines.

The first line of each execution is {"format": 1, "exported": {…}} with the execution as `executions show -o json` gives
it; then comes a line an event, from sequence 1 on without gaps: execution, sequence, time, kind, step, attempt, data.
A line with values that JSON lacks also has `types`: JSON pointers into that line to "datetime", "date", "time",
"timedelta" (seconds), "decimal", "uuid", "bytes" (base64), "tuple" or "set".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

import torana
from torana import Execution
from torana_server.cli import candidates, output
from torana_server.cli.connection import Connection, connected
from torana_server.cli.exits import UsageError
from torana_server.cli.view import event_members, plural, value_json, with_types

FORMAT = 1


@connected
def export(
    connection: Connection,
    *,
    executions: Annotated[
        list[str], typer.Argument(metavar="ID", help="Ids of executions.", autocompletion=candidates.executions)
    ],
    file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write here instead of standard output; replaces the file.")
    ] = None,
) -> None:
    """Write executions with all their events, as JSON lines.

    The first line of each is its header, {"format": 1, "exported": the execution}; then comes a line an event. Values
    that JSON lacks are named under `types`, so that nothing is lost. What still runs is written up to now.
    """
    with connection.blocking_client() as client, _opened(file) as to:
        count = sum(_write(client, one, to) for one in executions)
    if file:
        output.note(f"{plural(len(executions), 'execution')} with {plural(count, 'event')} written to {file}")


@contextmanager
def _opened(file: Path | None) -> Iterator[TextIO]:
    if file is None:
        yield sys.stdout
        return
    try:
        with file.open("w", encoding="utf-8") as opened:
            yield opened
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from None


def _write(client: torana.BlockingClient, execution_id: str, to: TextIO) -> int:
    """The number of events written. Raises EventsExpiredError when some are gone."""
    execution = client.get_execution(execution_id)
    exported = {name: getattr(execution, name) for name in Execution.__slots__}
    _write_line({"format": FORMAT, "exported": exported}, to)
    with client.watch(execution.id) as stream:
        for event in stream:
            _write_line(event_members(event), to)
            if event.sequence >= execution.latest_sequence:
                break
    return execution.latest_sequence


def _write_line(members: dict[str, Any], to: TextIO) -> None:
    ascii_only = not (to.encoding or "").lower().startswith("utf")
    to.write(f"{value_json(with_types(members), ascii_only=ascii_only)}\n")
